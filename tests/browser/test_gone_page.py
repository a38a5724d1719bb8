"""What a view does when its kernel has gone."""

import pytest

from tests.support.page import begin, sent, settle

pytestmark = pytest.mark.browser
WORDS = "! The kernel is gone: run this cell again."


def says_so(page):
    settle(page)
    assert page.locator(".mv-error").inner_text() == WORDS
    assert page.locator(".mv-say").is_hidden()
    others = page.locator(".mv > :not(.mv-live)")
    assert others.count() and others.evaluate_all("nodes => nodes.every(node => node.inert)")
    assert float(others.first.evaluate("node => getComputedStyle(node).opacity")) < 0.6


@pytest.mark.parametrize("part", ["workbench", "units", "inspector", "scatter", "timeline"])
def test_a_restarted_kernel_is_noticed_before_anyone_clicks(open_page, fake, part):
    page = begin(open_page(), fake, part)
    page.evaluate("model.lose()")
    says_so(page)


def test_a_click_that_reaches_no_kernel_says_so_and_throws_nothing(open_page, fake):
    page = begin(open_page(), fake)
    page.evaluate("model.gone = true")  # as where a host tells nobody
    page.locator(".mv-undo").click()
    says_so(page)
    asked = len(sent(page))
    page.locator(".mv-tile").first.dispatch_event("click")
    page.keyboard.press("Control+z")
    settle(page)
    assert len(sent(page)) == asked
    assert page.locator(".mv-now").first.inner_text() == ".43"  # its last picture


def test_a_live_kernel_is_only_asked(open_page, fake):
    page = begin(open_page(), fake)
    page.evaluate("for (const fn of model.callbacks.get('comm_live_update')) fn()")
    settle(page)
    assert sent(page, "hello")[1:] == [{"type": "hello"}]
    assert page.locator(".mv-error").is_hidden()

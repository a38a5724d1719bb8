"""What every room needs to refuse something in one sentence: quotes of it, and checks of files."""

from ._files import check_file as check_file
from ._files import check_place as check_place
from ._files import read_json as read_json
from ._quote import listed as listed
from ._quote import quoted as quoted

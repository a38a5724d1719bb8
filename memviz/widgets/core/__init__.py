"""What every view stands on: worker, messages, controller, page."""

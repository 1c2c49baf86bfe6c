"""The one exception that the kit shows to its users."""


class KardError(Exception):
    """Something that the user can mend, told in one line; the command line prints it without a traceback."""

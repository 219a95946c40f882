"""The one exception that a user of the command line can cause."""


class UserError(ValueError):
    """Bad input or setting; shown as one line, without a traceback, exit code 2.

    The message says what is wrong with the value received, what is allowed and
    what to do about it.
    """


class ProofError(RuntimeError):
    """The export does not answer as the trained model; it is not kept."""

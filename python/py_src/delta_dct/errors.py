"""What can go wrong: one class for each kind of error, all of them a `DeltaError`."""


class DeltaError(Exception):
    """Any error of this package. `tensor` names the tensor that it is about, where there is one."""

    def __init__(self, message: str, tensor: str | None = None) -> None:
        super().__init__(message)
        self.tensor = tensor


class CorruptError(DeltaError):
    """The bytes of a file contradict its format or its own checksum."""


class TruncatedError(DeltaError):
    """A file ends before it should."""


class UnsupportedError(DeltaError):
    """A file, or a wish, needs something that this version or installation does not have."""


class LimitError(DeltaError):
    """A file asks for more than a declared limit allows."""


class MismatchError(DeltaError):
    """Base, fine-tuned model and file do not belong together."""


class InvalidArgumentError(DeltaError, ValueError):
    """The caller asked for something that makes no sense."""


class IoError(DeltaError, OSError):
    """The operating system refused: no such file, permission, no space, the output exists."""

    def __str__(self) -> str:
        return str(self.args[0])


class Interrupted(DeltaError):
    """The progress callback returned `False`: nothing was written."""

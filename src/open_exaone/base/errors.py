"""Every exception of our own, as a tree:

OpenExaoneError           anything a user can fix; the command line prints it and exits 1
├── ConfigError           a recipe, flag or value is wrong; exits 2
├── DataError             a data file or a set of problems is wrong
├── CheckpointError       a model's folder or a saved state is wrong
├── PromptTooLongError    a prompt does not fit the model's context
├── RankError             another of the processes that train together failed, or cannot be reached
└── RunFolderError        a run's folder belongs to another recipe, is in use, or cannot be written
"""


class OpenExaoneError(Exception):
    """A failure that a user can fix; its message names what is wrong and how to fix it."""


class ConfigError(OpenExaoneError, ValueError):
    """A recipe, flag or value is wrong: names the file, the key, the value and what is allowed."""


class DataError(OpenExaoneError, ValueError):
    """A data file or a set of problems is wrong: names the file, line and field."""


class CheckpointError(OpenExaoneError):
    """A model's folder or a training state cannot be read: names the file and the tensor or field."""


class PromptTooLongError(OpenExaoneError, ValueError):
    """A prompt, or a prompt with its reply, does not fit the model's context."""


class RunFolderError(OpenExaoneError):
    """A run's folder holds another recipe's run, is in use by another process, or cannot be written."""


class RankError(OpenExaoneError):
    """Another rank failed, or cannot be reached: names the rank where it is known."""

"""Outages of MongoDB: the errors that mean one, and their descriptions."""

from typing import Final

from pymongo.errors import (
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)

from tornado_members.errors import DependencyUnavailable

# The exceptions of a store if MongoDB is unavailable, or refuses an operation.
STORE_ERRORS: Final = (DependencyUnavailable, PyMongoError)

# Error codes of conditions that end by themselves, or that another server does not have. The names
# are from src/mongo/base/error_codes.yml of MongoDB.
_TRANSIENT_CODES = frozenset(
    {
        # No primary, or a primary that steps down: NotWritablePrimary and its old names,
        # PrimarySteppedDown, ShutdownInProgress, InterruptedAtShutdown,
        # InterruptedDueToReplStateChange, InterruptedDueToStorageChange, ElectionInProgress,
        # FailedToSatisfyReadPreference, ReadConcernMajorityNotAvailableYet,
        # LinearizableReadConcernError, UnsatisfiableWriteConcern.
        *(10107, 10058, 13435, 13436, 189, 91, 11600, 11602, 355, 216, 133, 134, 187, 100),
        # Read-only or full: UserWritesBlocked, OutOfDiskSpace, and AtlasError for both.
        *(371, 14031, 8000),
        # Timeouts: MaxTimeMSExpired, ExceededTimeLimit, LockTimeout, NetworkTimeout,
        # NetworkInterfaceExceededTimeLimit; Interrupted and CursorKilled, after killOp.
        *(50, 262, 24, 89, 202, 11601, 237),
        # Overload: TemporarilyUnavailable, TooManyFilesOpen, ResourceExhausted,
        # AdmissionQueueOverflow, RateLimitExceeded.
        *(365, 264, 402, 433, 449),
        # A server cannot reach another one: HostUnreachable, HostNotFound, SocketException,
        # KeyNotFound (that signs cluster times).
        *(6, 7, 9001, 211),
        # The password or the role of the service changes: Unauthorized, AuthenticationFailed.
        *(13, 18),
    }
)


def is_outage(error: PyMongoError) -> bool:
    """True if MongoDB is unavailable for now. False if it refuses the operation itself."""
    if isinstance(error, ConnectionFailure | WriteConcernError) or error.timeout:
        return True
    if isinstance(error, ConfigurationError):  # of a server that starts: it has no sessions yet
        return True
    if error.has_error_label("RetryableWriteError"):  # the driver has retried
        return True
    if isinstance(error, BulkWriteError):
        return any(fault["code"] in _TRANSIENT_CODES for fault in error.details["writeErrors"])
    return isinstance(error, OperationFailure) and error.code in _TRANSIENT_CODES


def describe_failure(error: BaseException) -> str:
    """Return the reason of a failure in a few words, such as "refuses: AuthenticationFailed"."""
    refusal = error.__cause__ if isinstance(error, DependencyUnavailable) else error
    if not isinstance(refusal, PyMongoError) or isinstance(refusal, ConnectionFailure):
        return "does not answer"
    if isinstance(refusal, ConfigurationError) and refusal.__cause__ is not None:
        # The resolver's message names the record, and holds no password.
        return f"cannot be found: looking up its SRV record failed: {str(refusal).rstrip('.')}"
    details = getattr(refusal, "details", None) or {}
    return f"refuses: {details.get('codeName') or type(refusal).__name__}"

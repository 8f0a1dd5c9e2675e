"""The directory of members: reads go through the cache, and writes invalidate it."""

from tornado_members.directory.cache import Cache
from tornado_members.directory.history import MemberHistory
from tornado_members.directory.invalidation import CacheInvalidation
from tornado_members.directory.reader import MemberReader
from tornado_members.directory.writer import MemberWriter
from tornado_members.model.fields import FieldTable
from tornado_members.model.member import MEMBER_FIELDS
from tornado_members.storage.audit import AuditLog
from tornado_members.storage.member_groups import MemberGroups
from tornado_members.storage.members import MemberStore

__all__ = ["Cache", "MemberDirectory"]


class MemberDirectory(MemberReader, MemberWriter, MemberHistory, CacheInvalidation):
    """Members by id and by name.

    The cache has one entry per member and one per name. The entry of a name has the id of the
    member, and a read checks that the member still has the name. So a write invalidates the entries
    of the member and of its new name; that of its old name may stay.

    All methods raise DependencyUnavailable if they need MongoDB and it does not respond.
    """

    def __init__(
        self,
        store: MemberStore,
        cache: Cache,
        audit: AuditLog | None = None,
        fields: FieldTable = MEMBER_FIELDS,
        groups: MemberGroups | None = None,
    ) -> None:
        """`audit` reads what the store records, if it records changes.

        Without `groups`, each member is written alone.
        """
        MemberReader.__init__(self, store, cache, fields)
        MemberWriter.__init__(self, store, cache, groups)
        MemberHistory.__init__(self, store, audit)
        CacheInvalidation.__init__(self, cache)

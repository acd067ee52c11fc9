"""What the parts of the blob service share."""

from dataclasses import dataclass, field

from ..arm import Json
from .accounts import Accounts
from .authorize import Authorizer
from .azurite import Azurite
from .call import Place
from .delegation import DelegationKeys
from .history import History
from .pending import PendingCopies


@dataclass
class Desk:
    """What is needed to serve a request.

    immutable_containers: (account, container) where version-level immutability is on, beside those where ARM says so.
    copy_sources: where a blob came from, for those whose source Azurite knows by another name. pending: copies that
    are not done at once.
    """

    accounts: Accounts
    azurite: Azurite
    history: History
    keys: DelegationKeys
    authorize: Authorizer
    immutable_containers: set[tuple[str, str]] = field(default_factory=set)
    copy_sources: dict[Place, str] = field(default_factory=dict)
    pending: PendingCopies = field(default_factory=PendingCopies)

    def retention(self, account: str) -> Json:
        """The soft delete policy for blobs; empty where it is off."""
        return self.accounts.setting(account, "deleteRetentionPolicy")

    def days(self, account: str) -> int:
        return int(self.retention(account).get("days") or 7)

    def is_versioned(self, place: Place) -> bool:
        return self.accounts.is_versioned(place.account) and not self.accounts.is_hierarchical(place.account)

    def protects_versions(self, place: Place) -> bool:
        return place[:2] in self.immutable_containers or self.accounts.protects_versions(*place[:2])

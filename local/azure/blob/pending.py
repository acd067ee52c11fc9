"""Asynchronous copies that take their time.

https://learn.microsoft.com/rest/api/storageservices/copy-blob and .../abort-copy-blob

A blob is empty until its copy is done (a page blob has its length at once), and cannot be changed or deleted until then.
The source is read when the copy begins. Not modelled: a source that changes or goes while it is copied, which fails the
copy, and copies out of the archive tier, which Azure rehydrates first.
"""

from dataclasses import dataclass, field

from .azurite import Azurite
from .call import Place, Refusal


@dataclass
class PendingCopies:
    """Which copies are pending, and for how long.

    looks: so often a blob is read, or its properties, and found pending before its copy is done; 0 for at once. It holds
    for the copies that begin from then on. failure: what copies end with in x-ms-copy-status-description, in place of a
    success; empty for none. left: the looks that are left, by blob.
    """

    looks: int = 0
    failure: str = ""
    left: dict[Place, int] = field(default_factory=dict)

    def clear(self) -> None:
        self.looks, self.failure = 0, ""
        self.left.clear()

    def forget(self, container: Place) -> None:
        """Its blobs are gone."""
        self.left = {place: left for place, left in self.left.items() if place.box != container}

    def begin(self, azurite: Azurite, place: Place) -> None:
        """A copy that Azurite has done is not done yet."""
        if self.looks:
            azurite.do("pend", **place._asdict())
            self.left[place] = self.looks

    def look(self, azurite: Azurite, place: Place) -> None:
        """Somebody reads a blob, which brings its copy on."""
        if place not in self.left:
            return
        self.left[place] -= 1
        if self.left[place] < 0:
            self.end(azurite, place, "failed" if self.failure else "success", self.failure)

    def end(self, azurite: Azurite, place: Place, status: str, description: str = "") -> None:
        del self.left[place]
        azurite.do("settle", **place._asdict(), status=status, description=description or None)

    def refuse(self, place: Place) -> None:
        """Refusal for whatever would change the target of a pending copy."""
        if place in self.left:
            raise Refusal(409, "PendingCopyOperation", "There is currently a pending copy operation.")

    def abort(self, azurite: Azurite, place: Place, known: str, wanted: str) -> None:
        """known, wanted: the id of the blob's last copy, and of the copy to abort."""
        if known and known != wanted:
            raise Refusal(
                409, "CopyIdMismatch", "The specified copy ID did not match the copy ID for the pending copy operation."
            )
        if place not in self.left:
            raise Refusal(409, "NoPendingCopyOperation", "There is currently no pending copy operation.")
        self.end(azurite, place, "aborted")

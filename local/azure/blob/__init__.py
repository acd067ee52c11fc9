"""The blob service of the local Azure: Azurite behind a front that is as strict as the real service.

Every request passes service.py: who it comes from (network.py, authorize.py), what it is (operations.py), and what
Azurite does not know (versions, soft delete, holds, hierarchies). Azurite itself only ever sees requests that were
permitted, signed anew with the account's key.
"""

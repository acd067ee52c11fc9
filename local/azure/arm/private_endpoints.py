"""Private endpoint connections. They are a part of the account, and shown there, too."""

from ..front import Reply
from . import accounts, services
from .answers import ArmError, answer, bad_values, empty
from .call import Call
from .store import Arm, Json

STATES = ("Pending", "Approved", "Rejected")
KIND = "Microsoft.Storage/storageAccounts/privateEndpointConnections"


def add_connection(account: Json, name: str, endpoint: str, status: str = "Pending", description: str = "") -> Json:
    """A connection from a private endpoint, which is named by its id."""
    connection: Json = {
        "id": f"{account['id']}/privateEndpointConnections/{name}",
        "name": name,
        "type": KIND,
        "properties": {
            "provisioningState": "Succeeded",
            "privateEndpoint": {"id": endpoint},
            "privateLinkServiceConnectionState": {
                "status": status,
                "description": description,
                "actionRequired": "None",
            },
        },
    }
    account["properties"]["privateEndpointConnections"].append(connection)
    return connection


def connections(arm: Arm, call: Call) -> list[Json]:
    found: list[Json] = accounts.of(arm, call)["properties"]["privateEndpointConnections"]
    return found


def one(arm: Arm, call: Call) -> Json:
    for connection in connections(arm, call):
        if connection["name"].lower() == call["connection"].lower():
            return connection
    message = f"The private endpoint connection '{call['connection']}' was not found."
    raise ArmError(404, "PrivateEndpointConnectionNotFound", message)


def list_connections(arm: Arm, call: Call) -> Reply:
    return call.page(arm, connections(arm, call))


def get_connection(arm: Arm, call: Call) -> Reply:
    return answer(one(arm, call))


def put_connection(arm: Arm, call: Call) -> Reply:
    """Approves or rejects a connection; a new one is made from the endpoint's side only."""
    found = one(arm, call)
    wanted = call.properties.get("privateLinkServiceConnectionState") or {}
    if wanted.get("status") not in STATES:
        raise bad_values("privateLinkServiceConnectionState.status")
    state = found["properties"]["privateLinkServiceConnectionState"]
    if state["status"] == "Rejected" and wanted["status"] == "Approved":
        raise ArmError(409, "PrivateEndpointConnectionRejected", "A connection that was rejected cannot be approved.")
    state.update({"description": "", **wanted})
    return answer(found)


def delete_connection(arm: Arm, call: Call) -> Reply:
    try:
        found = one(arm, call)
    except ArmError:
        return empty(204)
    connections(arm, call).remove(found)
    return empty(200)


def list_link_resources(arm: Arm, call: Call) -> Reply:
    account = accounts.of(arm, call)
    names = list(services.SERVICES[account["kind"]])
    found = [
        {
            "id": f"{account['id']}/privateLinkResources/{name}",
            "name": name,
            "type": "Microsoft.Storage/storageAccounts/privateLinkResources",
            "properties": {
                "groupId": name,
                "requiredMembers": [name],
                "requiredZoneNames": [f"privatelink.{name}.core.windows.net"],
            },
        }
        for name in names
    ]
    return answer({"value": found})

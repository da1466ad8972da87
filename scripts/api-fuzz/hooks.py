"""Lets half of the requests name what is there: a random number or word seldom does."""

import random

import schemathesis

KNOWN = {
    "/api/v1/runs": {"id": [1, 2]},
    "/jobs/": {"job": ["a"]},
    "/api/v1/secrets": {"name": ["deploy"]},
}


@schemathesis.hook
def map_path_parameters(context, path_parameters):
    if path_parameters is None or random.random() < 0.5:
        return path_parameters
    for part, known in KNOWN.items():
        if part in context.operation.path:
            for name, values in known.items():
                if name in path_parameters:
                    path_parameters[name] = random.choice(values)
    return path_parameters


@schemathesis.hook
def before_call(context, case, kwargs):
    """A stream of a run that goes on has no end, and such runs there are: the queue gets paused."""
    follows = case.operation.path.endswith("/events") or (case.query or {}).get("follow")
    id = str((case.path_parameters or {}).get("id", ""))
    if follows and id.isdecimal() and int(id) > max(KNOWN["/api/v1/runs"]["id"]):
        case.path_parameters["id"] = random.choice(KNOWN["/api/v1/runs"]["id"])

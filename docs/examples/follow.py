#!/usr/bin/env python3
"""follow.py http://127.0.0.1:8080 STATE: keeps every price. Kill it, start it again: it goes on."""
import http.client, json, os, sys, time, urllib.error, urllib.request
ROUTER, STATE = sys.argv[1], sys.argv[2]
state = json.load(open(STATE)) if os.path.exists(STATE) else {"token": "", "prices": {}}
def on_event(event):  # what it caused, and the position behind it, are kept in one step
    change, state["token"] = json.loads(event["data"]), event.get("id", state["token"])
    if event["event"] == "change" and change["op"] == "upsert":
        state["prices"][change["zip"] + " " + change["id"]] = change["listing"].get("ListPrice")
    elif event["event"] == "change":
        state["prices"].pop(change["zip"] + " " + change["id"], None)
    elif event["event"] == "resync-begin":
        state["prices"] = {}
    with open(STATE + ".new", "w") as new:
        json.dump(state, new)
    os.replace(STATE + ".new", STATE)
while True:
    event, headers = {}, {"Accept": "text/event-stream", "Last-Event-ID": state["token"]}
    request = urllib.request.Request(ROUTER + "/v1/changes?from=beginning", headers=headers)
    try:
        for line in urllib.request.urlopen(request, timeout=60):
            name, _, event[name] = line.decode().rstrip("\n").partition(": ")
            event = event if name else on_event(event) or {}  # an empty line ends an event
    except (OSError, http.client.HTTPException) as error:
        code = error.code if isinstance(error, urllib.error.HTTPError) else 503
        if code == 410:  # away for too long: all is told again
            state["token"] = json.load(error)["resync"]
        elif code == 400:
            sys.exit(error.read().decode())
        time.sleep(1)

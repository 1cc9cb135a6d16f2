#!/usr/bin/env python3
"""Keeps every listing's price, and follows every change. Kill it, start it again: it goes on.

usage: follow.py http://127.0.0.1:8080 STATE_FILE
"""
import json, os, sys, time, urllib.error, urllib.request

ROUTER, STATE = sys.argv[1], sys.argv[2]
state = json.load(open(STATE)) if os.path.exists(STATE) else {"token": None, "prices": {}}


def on_change(change):
    key = change["zip"] + " " + change["id"]
    if change["op"] == "upsert":
        state["prices"][key] = change["listing"].get("ListPrice")
    else:
        state["prices"].pop(key, None)
    print(change["op"], key, flush=True)


def save(token):  # what an event caused, and the position behind it, in one step
    state["token"] = token
    json.dump(state, open(STATE + ".new", "w"))
    os.replace(STATE + ".new", STATE)


while True:
    headers = {"Accept": "text/event-stream"}
    headers |= {"Last-Event-ID": state["token"]} if state["token"] else {}
    request = urllib.request.Request(ROUTER + "/v1/changes?from=beginning", headers=headers)
    try:
        event = {}
        for line in urllib.request.urlopen(request, timeout=60):
            name, _, value = line.decode().rstrip("\n").partition(": ")
            event[name] = value
            if not name:  # an empty line ends an event
                if event["event"] == "resync-begin":
                    state["prices"] = {}
                elif event["event"] == "change":
                    on_change(json.loads(event["data"]))
                save(event.get("id", state["token"]))
                event = {}
    except urllib.error.HTTPError as error:
        answer = json.load(error)
        if error.code != 410:
            sys.exit(answer["detail"])
        save(answer["resync"])  # away for too long: the state is told again
    except OSError as error:
        print("again:", error, file=sys.stderr)
        time.sleep(1)

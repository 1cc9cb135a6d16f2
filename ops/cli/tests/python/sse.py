"""Follows changes by an independent SSE client: a JSON object for each event, until COUNT changes.

usage: sse.py ROUTER LAST_EVENT_ID COUNT
"""

import json
import sys

import requests
import sseclient

router, last_event_id, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
headers = {"Accept": "text/event-stream"}
if last_event_id:
    headers["Last-Event-ID"] = last_event_id
answer = requests.get(
    router + "/v1/changes?from=beginning&heartbeat=1", headers=headers, stream=True, timeout=60
)
answer.raise_for_status()
for event in sseclient.SSEClient(answer).events():
    told = {"id": event.id, "event": event.event, "data": json.loads(event.data)}
    print(json.dumps(told), flush=True)
    count -= event.event == "change"
    if count == 0:
        break

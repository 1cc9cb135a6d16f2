"""An independent SQS and S3 (moto) with messages for the ingester, told what to do on stdin.

Prints one JSON line when it is up, `{"endpoint": ..., "queue_url": ...}`; then answers each line
of stdin: `depth` gives `[waiting, in flight]`, `end` ends it.
"""

import json
import sys

import boto3
from moto.server import ThreadedMotoServer

CLASS = "software.amazon.payloadoffloading.PayloadS3Pointer"
OLD_CLASS = "com.amazon.sqs.javamessaging.MessageS3Pointer"


def upsert(key):
    return json.dumps({"op": "upsert", "listing": {"ListingKey": key, "PostalCode": "98101"}})


def pointer(key, pointer_class=CLASS):
    return json.dumps([pointer_class, {"s3BucketName": "bodies", "s3Key": key}])


def main():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    keys = dict(
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
    )
    sqs, s3 = boto3.client("sqs", **keys), boto3.client("s3", **keys)
    url = sqs.create_queue(QueueName="listings")["QueueUrl"]
    s3.create_bucket(Bucket="bodies")
    s3.put_object(Bucket="bodies", Key="some where/é+1", Body=upsert("from-s3"))
    s3.put_object(Bucket="bodies", Key="old", Body=upsert("from-s3-old").encode())
    bodies = [upsert(f"plain-{n}") for n in range(20)]
    bodies += [
        json.dumps({"Type": "Notification", "Message": upsert("from-sns")}),
        pointer("some where/é+1"),
        pointer("old", OLD_CLASS),
        pointer("nowhere"),
        "no JSON",
    ]
    sequence = {"sequence": {"DataType": "Number", "StringValue": "1"}}
    for n, body in enumerate(bodies):
        sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=sequence if n == 24 else {})
    print(json.dumps({"endpoint": endpoint, "queue_url": url}), flush=True)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
        print(json.dumps([int(found[name]) for name in names]), flush=True)
    server.stop()


if __name__ == "__main__":
    main()

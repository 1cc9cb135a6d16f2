"""The feed server as boto3 sees it: an independent client, which checks every MD5 itself.

Usage: feed.py ENDPOINT
"""

import sys
import threading

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError


def client_of(endpoint):
    return boto3.client(
        "sqs",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"max_attempts": 0}),
    )


def code_of(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    raise AssertionError(f"{call} was not refused")


def queues_are_made_found_listed_and_removed(sqs):
    url = sqs.create_queue(QueueName="made", Attributes={"VisibilityTimeout": "7"})["QueueUrl"]
    assert sqs.create_queue(QueueName="made")["QueueUrl"] == url
    assert sqs.get_queue_url(QueueName="made")["QueueUrl"] == url
    assert url in sqs.list_queues(QueueNamePrefix="ma")["QueueUrls"]
    assert "QueueUrls" not in sqs.list_queues(QueueNamePrefix="nothing")
    changed = {"VisibilityTimeout": "8"}
    assert code_of(sqs.create_queue, QueueName="made", Attributes=changed) == "QueueAlreadyExists"
    sqs.set_queue_attributes(QueueUrl=url, Attributes=changed)
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert attributes["VisibilityTimeout"] == "8", attributes
    assert attributes["ApproximateNumberOfMessages"] == "0", attributes
    assert code_of(sqs.create_queue, QueueName="a b") == "InvalidParameterValue"
    unknown = {"RedrivePolicy": "{}"}
    refused = code_of(sqs.set_queue_attributes, QueueUrl=url, Attributes=unknown)
    assert refused == "InvalidAttributeName", refused
    sqs.delete_queue(QueueUrl=url)
    missing = "AWS.SimpleQueueService.NonExistentQueue"
    assert code_of(sqs.get_queue_url, QueueName="made") == missing
    assert code_of(sqs.send_message, QueueUrl=url, MessageBody="x") == missing


def bodies_and_attributes_arrive_as_sent(sqs):
    url = sqs.create_queue(QueueName="bodies")["QueueUrl"]
    bodies = ["x", "\t\n\r \"\\/ é € 😀", "{\"a\": \"b\"}", "ü" * (512 << 10)]
    attributes = {
        "sequence": {"DataType": "Number", "StringValue": "42"},
        "name": {"DataType": "String.custom", "StringValue": "é"},
        "bytes": {"DataType": "Binary", "BinaryValue": bytes(range(256))},
    }
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1"}}
    for body in bodies:
        small = len(body) < 100
        sqs.send_message(
            QueueUrl=url,
            MessageBody=body,
            MessageAttributes=attributes if small else {},
            MessageSystemAttributes=trace,
        )
    found = []
    while len(found) < len(bodies):
        answer = sqs.receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
            AttributeNames=["All"],
        )
        found += answer["Messages"]
    assert sorted(m["Body"] for m in found) == sorted(bodies)
    for message in found:
        assert message["Attributes"]["AWSTraceHeader"] == "Root=1"
        assert message["Attributes"]["ApproximateReceiveCount"] == "1"
        if len(message["Body"]) < 100:
            got = message["MessageAttributes"]
            assert got["sequence"]["StringValue"] == "42", got
            assert got["bytes"]["BinaryValue"] == bytes(range(256)), got
            assert got["name"]["DataType"] == "String.custom", got
    sqs.purge_queue(QueueUrl=url)
    assert depth(sqs, url) == (0, 0)


def some_attributes_come_with_their_own_checksum(sqs):
    url = sqs.create_queue(QueueName="some")["QueueUrl"]
    text = {"DataType": "String", "StringValue": "x"}
    sqs.send_message(QueueUrl=url, MessageBody="x", MessageAttributes={"a.b": text, "c": text})
    look = dict(QueueUrl=url, VisibilityTimeout=0)
    message = sqs.receive_message(MessageAttributeNames=["a.*"], **look)["Messages"][0]
    assert list(message["MessageAttributes"]) == ["a.b"], message
    assert "Attributes" not in message, message
    names = ["SentTimestamp"]
    message = sqs.receive_message(MessageSystemAttributeNames=names, **look)["Messages"][0]
    assert list(message["Attributes"]) == names, message
    assert "MessageAttributes" not in message, message


def batches_fail_by_entry(sqs):
    url = sqs.create_queue(QueueName="batches")["QueueUrl"]
    entries = [{"Id": str(n), "MessageBody": f"{n}"} for n in range(10)]
    entries[3]["MessageBody"] = "bad \x00"
    answer = sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert len(answer["Successful"]) == 9
    assert [f["Id"] for f in answer["Failed"]] == ["3"], answer["Failed"]
    assert answer["Failed"][0]["Code"] == "InvalidMessageContents", answer["Failed"]
    assert answer["Failed"][0]["SenderFault"]
    messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)["Messages"]
    handles = [m["ReceiptHandle"] for m in messages]
    entries = [{"Id": str(n), "ReceiptHandle": h} for n, h in enumerate(handles)]
    entries.append({"Id": "bad", "ReceiptHandle": "garbage"})
    hide = [dict(entry, VisibilityTimeout=60) for entry in entries]
    answer = sqs.change_message_visibility_batch(QueueUrl=url, Entries=hide)
    assert [f["Code"] for f in answer["Failed"]] == ["ReceiptHandleIsInvalid"], answer
    answer = sqs.delete_message_batch(QueueUrl=url, Entries=entries)
    assert len(answer["Successful"]) == 9
    assert [f["Code"] for f in answer["Failed"]] == ["ReceiptHandleIsInvalid"], answer
    assert depth(sqs, url) == (0, 0)
    twice = [{"Id": "1", "MessageBody": "x"}] * 2
    refused = code_of(sqs.send_message_batch, QueueUrl=url, Entries=twice)
    assert refused == "AWS.SimpleQueueService.BatchEntryIdsNotDistinct", refused


def visibility_and_delays_hide_messages(sqs):
    url = sqs.create_queue(QueueName="hidden", Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="late", DelaySeconds=1)
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    message = sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20)["Messages"][0]
    handle = message["ReceiptHandle"]
    assert depth(sqs, url) == (0, 1)
    sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
    again = sqs.receive_message(QueueUrl=url)["Messages"][0]
    assert again["MessageId"] == message["MessageId"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=handle)
    assert depth(sqs, url) == (0, 1), "an old handle deletes nothing"
    sqs.delete_message(QueueUrl=url, ReceiptHandle=again["ReceiptHandle"])
    assert depth(sqs, url) == (0, 0)


def a_long_poll_is_woken(sqs):
    url = sqs.create_queue(QueueName="woken")["QueueUrl"]
    found = []

    def poll():
        found.append(sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20))

    poller = threading.Thread(target=poll)
    poller.start()
    sqs.send_message(QueueUrl=url, MessageBody="x")
    poller.join(timeout=10)
    assert found and found[0]["Messages"][0]["Body"] == "x", found


def depth(sqs, url):
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return tuple(int(found[name]) for name in names)


def main():
    sqs = client_of(sys.argv[1])
    for claim in (
        queues_are_made_found_listed_and_removed,
        bodies_and_attributes_arrive_as_sent,
        some_attributes_come_with_their_own_checksum,
        batches_fail_by_entry,
        visibility_and_delays_hide_messages,
        a_long_poll_is_woken,
    ):
        claim(sqs)
        print(f"ok {claim.__name__}")


if __name__ == "__main__":
    main()

"""The gateway against foreign clients: grpcio, an OpenAPI validator, GraphQL's audits, and plain HTTP by curl.

    gateway.py RINGWAY [AUDIT]    RINGWAY: the built command; AUDIT: graphql.mjs where node finds graphql-http

The cases carry the names of gRPC's interop description; they run against the services of the examples, which stand
in for its test service. Needs grpcio, grpcio-reflection, grpcio-health-checking, openapi-spec-validator, pyyaml.
"""

import json
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import grpc
import yaml
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from openapi_spec_validator import validate

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60


class Command:
    """A command that says where it listens; leaving it ends it."""

    def __init__(self, *arguments):
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.native = None
        for line in self.process.stdout:
            if line.startswith("listening on "):
                self.native = line.split()[-1]
            if line.startswith("gateway on "):
                self.url = line.split()[-1]
                self.address = self.url.removeprefix("http://")
                return
        raise SystemExit(f"{arguments} ended before it listened")

    def __enter__(self):
        return self

    def __exit__(self, *_error):
        self.process.terminate()
        self.process.wait(PATIENCE)


class Service:
    """A service by its reflection: methods by name, messages from keyword arguments."""

    def __init__(self, channel, name):
        pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        self.channel = channel
        self.descriptor = pool.FindServiceByName(name)

    def message(self, method, **fields):
        return message_factory.GetMessageClass(self.descriptor.methods_by_name[method].input_type)(**fields)

    def __getattr__(self, name):
        method = self.descriptor.methods_by_name[name]
        kind = f"{'stream' if method.client_streaming else 'unary'}_{'stream' if method.server_streaming else 'unary'}"
        return getattr(self.channel, kind)(
            f"/{self.descriptor.full_name}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )


def failure(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call went well")


def equal(one, other):
    assert one == other, f"{one!r} is not {other!r}"


def empty_unary(kv, echo):
    equal(echo.Say(echo.message("Say"), timeout=PATIENCE).body, b"")


def large_unary(kv, echo):
    body = bytes(range(256)) * 4096
    equal(echo.Say(echo.message("Say", body=body), timeout=PATIENCE).body, body)


def client_compressed_unary(kv, echo):
    body = bytes(271828)
    call = echo.Say.with_call(echo.message("Say", body=body), timeout=PATIENCE, compression=grpc.Compression.Gzip)
    equal(call[0].body, body)


def client_streaming(kv, echo):
    bodies = [echo.message("Drain", body=bytes(size)) for size in (27182, 8, 1828, 45904)]
    answer = echo.Drain(iter(bodies), timeout=PATIENCE)
    equal((answer.count, answer.bytes), (4, 74922))


def client_compressed_streaming(kv, echo):
    bodies = [echo.message("Drain", body=bytes(size)) for size in (27182, 45904)]
    answer = echo.Drain(iter(bodies), timeout=PATIENCE, compression=grpc.Compression.Gzip)
    equal((answer.count, answer.bytes), (2, 73086))


def server_streaming(kv, echo):
    answers = list(echo.Pour(echo.message("Pour", count=1000, body_bytes=9000), timeout=PATIENCE))
    equal([len(it.body) for it in answers], [9000] * 1000)


class Turns:
    """Requests that are sent when they are told to."""

    def __init__(self):
        self.items = []
        self.ready = threading.Condition()

    def say(self, item):
        with self.ready:
            self.items.append(item)
            self.ready.notify()

    def __iter__(self):
        return self

    def __next__(self):
        with self.ready:
            self.ready.wait_for(lambda: self.items, PATIENCE)
            item = self.items.pop(0)
        if item is None:
            raise StopIteration
        return item


def ping_pong(kv, echo):
    turns = Turns()
    answers = echo.Chat(turns, timeout=PATIENCE)
    for size in (31415, 9, 2653, 58979):
        turns.say(echo.message("Chat", body=bytes(size)))
        equal(len(next(answers).body), size)
    turns.say(None)
    equal(list(answers), [])


def empty_stream(kv, echo):
    equal(list(echo.Chat(iter([]), timeout=PATIENCE)), [])


def status_code_and_message(kv, echo):
    error = failure(lambda: kv.Get(kv.message("Get", key="no such key"), timeout=PATIENCE))
    equal((error.code(), error.details()), (grpc.StatusCode.NOT_FOUND, "`no such key` has no value"))


def special_status_message(kv, echo):
    key = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP \U0001f608\t\n"
    error = failure(lambda: kv.Get(kv.message("Get", key=key), timeout=PATIENCE))
    assert "☺ and non-BMP \U0001f608" in error.details(), error.details()


def unimplemented_method(kv, echo):
    for name in ("/kv.KeyValue/Nothing", "/no.Service/Nothing"):
        error = failure(lambda: kv.channel.unary_unary(name)(b"", timeout=PATIENCE))
        equal(error.code(), grpc.StatusCode.UNIMPLEMENTED)


def cancel_after_begin(kv, echo):
    call = echo.Drain.future(Turns(), timeout=PATIENCE)
    call.cancel()
    equal(call.code(), grpc.StatusCode.CANCELLED)


def cancel_after_first_response(kv, echo):
    turns = Turns()
    answers = echo.Chat(turns, timeout=PATIENCE)
    turns.say(echo.message("Chat", body=bytes(31415)))
    next(answers)
    answers.cancel()
    equal(failure(lambda: next(answers)).code(), grpc.StatusCode.CANCELLED)
    turns.say(None)


def timeout_on_sleeping_server(kv, echo):
    request = echo.message("Sleep", microseconds=1_000_000)
    error = failure(lambda: echo.Sleep(request, timeout=0.05))
    equal(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)


def concurrent_large_unary(kv, echo):
    body = bytes(271828)
    calls = [echo.Say.future(echo.message("Say", body=body), timeout=PATIENCE) for _ in range(200)]
    assert all(call.result().body == body for call in calls)


def message_too_long(kv, echo):
    error = failure(lambda: echo.Say(echo.message("Say", body=bytes(5 << 20)), timeout=PATIENCE))
    equal(error.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)


def watch(kv, echo):
    """Changes by one client come to another; the watch ends when its client goes."""
    events = kv.Watch(kv.message("Watch", from_revision=1, prefix="watched/"), timeout=PATIENCE)
    kv.Put(kv.message("Put", key="watched/a", value=b"1"), timeout=PATIENCE)
    equal(next(events).key, "watched/a")
    events.cancel()


def health(kv, echo):
    stub = health_pb2_grpc.HealthStub(kv.channel)
    request = health_pb2.HealthCheckRequest(service="kv.KeyValue")
    serving = health_pb2.HealthCheckResponse.SERVING
    equal(stub.Check(request, timeout=PATIENCE).status, serving)
    watching = stub.Watch(request, timeout=PATIENCE)
    equal(next(watching).status, serving)
    watching.cancel()
    unknown = health_pb2.HealthCheckRequest(service="no.Service")
    equal(failure(lambda: stub.Check(unknown, timeout=PATIENCE)).code(), grpc.StatusCode.NOT_FOUND)


CASES = [
    empty_unary, large_unary, client_compressed_unary, client_streaming, client_compressed_streaming,
    server_streaming, ping_pong, empty_stream, status_code_and_message, special_status_message,
    unimplemented_method, cancel_after_begin, cancel_after_first_response, timeout_on_sleeping_server,
    concurrent_large_unary, message_too_long, watch, health,
]  # fmt: skip


def run_cases(kv_address, echo_address):
    with grpc.insecure_channel(kv_address) as one, grpc.insecure_channel(echo_address) as other:
        kv, echo = Service(one, "kv.KeyValue"), Service(other, "bench.Echo")
        for case in CASES:
            case(kv, echo)
            print(f"  {case.__name__}: ok", flush=True)


def fetch(url):
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return answer.read()


def openapi(url):
    document = json.loads(fetch(f"{url}/openapi.json"))
    validate(document)
    equal(yaml.safe_load(fetch(f"{url}/openapi.yaml")), document)
    print(f"  openapi of {document['info']['title']}: valid, {len(document['paths'])} paths", flush=True)


def curl(*arguments):
    done = subprocess.run(["curl", "-sS", "-m", str(PATIENCE), *arguments], capture_output=True, text=True)
    return done.stdout


def http(url):
    equal(json.loads(curl("-X", "PUT", "--json", '{"value":"MQ=="}', f"{url}/v1/keys/curl/a")).keys(), {"revision"})
    equal(json.loads(curl(f"{url}/v1/keys/curl/a"))["value"], "MQ==")
    lines = curl("-H", "content-type: application/x-ndjson", "--data-binary", '{"key":"a"}\n{"key":"b"}\n', f"{url}/v1/keys")
    equal(json.loads(lines)["count"], "2")
    events = f"{url}/v1/changes?prefix=curl/&fromRevision=1"
    for kind, begin in (("text/event-stream", "data: {"), ("application/x-ndjson", "{")):
        # It never ends by itself: the deadline ends it.
        came = curl("-N", "-H", f"accept: {kind}", "-H", "x-request-timeout: 0.3", events)
        assert came.startswith(begin) and '"key":"curl/a"' in came, came
        assert '"code":4' in came, came
    print("  curl: REST, events, lines: ok", flush=True)


def graphql(url, audit):
    def ask(document, *more):
        body = json.dumps({"query": document})
        return curl("--json", body, *more, f"{url}/graphql")

    put = json.loads(ask('mutation { keyValuePut(input: {key: "graph", value: "MQ=="}) { revision } }'))
    revision = put["data"]["keyValuePut"]["revision"]
    get = json.loads(ask('{ keyValueGet(input: {key: "graph"}) { value revision } }'))
    equal(get, {"data": {"keyValueGet": {"value": "MQ==", "revision": revision}}})
    watch = f'subscription {{ keyValueWatch(input: {{fromRevision: "{revision}"}}) {{ key }} }}'
    events = ask(watch, "-N", "-H", "accept: text/event-stream", "-H", "x-request-timeout: 0.3")
    assert events.startswith('event: next\ndata: {"data":{"keyValueWatch":{"key":"graph"}}}'), events
    print("  curl: GraphQL: ok", flush=True)
    if audit:
        subprocess.run(["node", audit, f"{url}/graphql"], check=True)


def main(ringway, audit=None):
    serve = [ringway, "serve", "tcp://127.0.0.1:0", "--idle", "park", "--gateway", "127.0.0.1:0", "--example"]
    with Command(*serve, "kv") as kv, Command(*serve, "echo") as echo:
        print("services in the gateway's thread", flush=True)
        run_cases(kv.address, echo.address)
        http(kv.url)
        graphql(kv.url, audit)
        openapi(kv.url)
        openapi(echo.url)
        gateway = [ringway, "gateway", "--listen", "127.0.0.1:0", "--docs", "--backend"]
        rules = ["--proto", str(ROOT / "rpc/gateway/tests/rules.proto")]
        with Command(*gateway, kv.native) as kv_far, Command(*gateway, echo.native) as echo_far:
            print("servers elsewhere", flush=True)
            run_cases(kv_far.address, echo_far.address)
            http(kv_far.url)
        with Command(*gateway, kv.native, *rules) as other:
            openapi(other.url)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The checks with the client of the package `azure-functions-durable` 1, as it is published.

`python client.py URL` runs named checks against the API at that URL, prints a line for each and exits with 1 at the first
that fails. The client can not send a key, so the listener must be one that asks for none.
"""

import asyncio
import itertools
import json
import os
import re
import sys
import threading
import time
import traceback
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import aiohttp
import azure.functions as func
from azure.durable_functions import DurableOrchestrationClient, EntityId, OrchestrationRuntimeStatus

WORKFLOW = "guests"
ENTITY = "entities"
# More than a page has if nobody says how many.
MANY = 105
PAGE = 100
# How long a check waits for what should happen soon. Generous: it only passes when one fails.
SOON_SECONDS = 60
POLL_SECONDS = 0.02

State = OrchestrationRuntimeStatus
numbers = itertools.count()


def client_data(base):
    """What an Azure host hands to a function that asks for a client."""
    query = "taskHub=Checks&connection=Storage"
    instance = f"{base}/instances/INSTANCEID"
    return json.dumps({
        "taskHubName": "Checks",
        "creationUrls": {"createNewInstancePostUri": f"{base}/orchestrators/{{functionName}}[/{{instanceId}}]?{query}"},
        "managementUrls": {
            "id": "INSTANCEID",
            "statusQueryGetUri": f"{instance}?{query}",
            "sendEventPostUri": f"{instance}/raiseEvent/{{eventName}}?{query}",
            "terminatePostUri": f"{instance}/terminate?reason={{text}}&{query}",
            "rewindPostUri": f"{instance}/rewind?reason={{text}}&{query}",
            "purgeHistoryDeleteUri": f"{instance}?{query}",
            "restartPostUri": f"{instance}/restart?{query}",
            "suspendPostUri": f"{instance}/suspend?reason={{text}}&{query}",
            "resumePostUri": f"{instance}/resume?reason={{text}}&{query}",
        },
        "rpcBaseUrl": f"{base}/",
    })


def fresh_id(what):
    return f"{what}-{os.getpid()}-{time.time_ns()}-{next(numbers)}"


def echo(value):
    return {"do": "echo", "value": value}


def waits(count):
    return {"do": "signal", "name": "Go", "count": count}


def equal(got, expected):
    if got != expected:
        raise AssertionError(f"expected {expected!r}, got {got!r}")


async def raises(work, pattern):
    try:
        got = await work
    except Exception as error:  # the client raises nothing more specific
        if not re.search(pattern, str(error)):
            raise AssertionError(f"expected an error like {pattern!r}, got {error!r}") from error
        return
    raise AssertionError(f"expected an error like {pattern!r}, got {got!r}")


async def until(what, ask, condition):
    deadline = time.monotonic() + SOON_SECONDS
    while True:
        seen = await ask()
        if condition(seen):
            return seen
        if time.monotonic() > deadline:
            seen = seen.to_json() if hasattr(seen, "to_json") else seen
            raise AssertionError(f"expected {what} within {SOON_SECONDS} s, got {seen!r}")
        await asyncio.sleep(POLL_SECONDS)


class MoodyServer:
    """A server that refuses until it is told to work: what an activity depends on."""

    def __init__(self):
        self.works = False
        moody = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = json.dumps("at last" if moody.works else "not today").encode()
                self.send_response(200 if moody.works else 400)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Checks:
    """All checks, in this order: the methods whose names begin with `check_`."""

    def __init__(self, base):
        self.base = base
        self.client = DurableOrchestrationClient(client_data(base))
        self.request = func.HttpRequest("GET", f"{base}/anything", body=b"")

    async def started(self, what, value):
        return await self.client.start_new(WORKFLOW, fresh_id(what), value)

    async def in_state(self, instance, state):
        status = lambda: self.client.get_status(instance)
        return await until(f"{instance} in state {state}", status, lambda seen: seen.runtime_status == state)

    async def over(self, instance):
        ended = [State.Completed, State.Failed, State.Terminated, State.Canceled]
        status = lambda: self.client.get_status(instance)
        return await until(f"the end of {instance}", status, lambda seen: seen.runtime_status in ended)

    async def missing(self, instance):
        seen = await self.client.get_status(instance)
        equal((bool(seen), seen.runtime_status), (False, None))

    async def check_start_with_an_id_of_ones_own(self):
        instance = fresh_id("own")
        equal(await self.client.start_new(WORKFLOW, instance, echo(1)), instance)
        equal((await self.over(instance)).output, 1)

    async def check_start_with_an_id_that_the_host_makes(self):
        instance = await self.client.start_new(WORKFLOW, client_input=echo("made"))
        equal(re.fullmatch("[0-9a-f]{32}", instance) is not None, True)
        equal((await self.over(instance)).output, "made")

    async def check_start_without_an_input(self):
        instance = await self.client.start_new(WORKFLOW, fresh_id("empty"))
        seen = await self.over(instance)
        equal((seen.runtime_status, seen.input_), (State.Failed, None))

    async def check_start_of_a_version(self):
        instance = await self.client.start_new(WORKFLOW, fresh_id("version"), {"do": "info"}, version="1")
        equal((await self.over(instance)).output["version"], "1")
        await raises(self.client.start_new(WORKFLOW, fresh_id("version"), echo(1), version="99"), "99")

    async def check_start_of_a_function_that_is_not_there(self):
        await raises(self.client.start_new("nobody"), "^no workflow.*nobody")

    async def check_start_of_an_instance_that_runs_already(self):
        instance = await self.started("twice", waits(1))
        await raises(self.client.start_new(WORKFLOW, instance, waits(1)), "Message.*has not ended")
        await self.client.terminate(instance, "done")

    async def check_status_of_an_instance_that_has_ended(self):
        before = datetime.now(timezone.utc).replace(microsecond=0)
        value = echo({"a": [1, "two", None]})
        instance = await self.started("ended", value)
        seen = await self.over(instance)
        equal((seen.name, seen.instance_id, seen.output), (WORKFLOW, instance, {"a": [1, "two", None]}))
        equal((seen.runtime_status, seen.custom_status), (State.Completed, None))
        # The client encodes an input twice, and the host keeps what it was sent.
        equal(json.loads(seen.input_), value)
        for seen_time in (seen.created_time, seen.last_updated_time):
            equal(before <= seen_time <= datetime.now(timezone.utc) and seen_time.microsecond == 0, True)

    async def check_status_with_a_custom_status(self):
        instance = await self.started("custom", {"do": "status", "value": {"step": 3}})
        status = lambda: self.client.get_status(instance)
        seen = await until("a custom status", status, lambda seen: seen.custom_status is not None)
        equal((seen.runtime_status, seen.custom_status, seen.output), (State.Running, {"step": 3}, None))
        await self.client.terminate(instance, "done")

    async def check_status_of_an_instance_that_failed(self):
        failure = {"kind": "application", "code": "told-to", "message": "it was told to fail"}
        seen = await self.over(await self.started("failed", {"do": "fail", "failure": failure}))
        equal(seen.runtime_status, State.Failed)
        equal("it was told to fail" in seen.output, True)

    async def check_status_of_an_instance_that_is_not_there(self):
        await self.missing("nobody")

    async def check_history_with_results_and_without(self):
        instance = await self.started("history", {"do": "sequence", "name": "echo", "count": 2})
        await self.over(instance)
        history = (await self.client.get_status(instance, show_history=True, show_history_output=True)).history
        types = ["ExecutionStarted", "TaskCompleted", "TaskCompleted", "ExecutionCompleted"]
        equal([event["EventType"] for event in history], types)
        equal([(event["FunctionName"], event["Result"]) for event in history[1:3]], [("echo", 0), ("echo", 1)])
        equal(all(event["ScheduledTime"] <= event["Timestamp"] for event in history[1:3]), True)
        equal((history[3]["OrchestrationStatus"], history[3]["Result"]), ("Completed", [0, 1]))
        bare = (await self.client.get_status(instance, show_history=True)).history
        equal(["Result" in event for event in bare], [False] * 4)

    async def check_the_urls_of_a_check_status_response(self):
        instance = await self.started("urls", waits(1))
        response = self.client.create_check_status_response(self.request, instance)
        urls = json.loads(response.get_body())
        equal((response.status_code, response.headers["location"]), (202, urls["statusQueryGetUri"]))
        equal(urls, self.client.create_http_management_payload(instance))
        text = lambda name: urls[name].replace("{text}", "over%20a%20URL")
        async with aiohttp.ClientSession() as session:
            async def sent(method, url, **options):
                async with session.request(method, url, **options) as answer:
                    body = await answer.json(content_type=None)
                    return answer.status, body
            status, body = await sent("GET", urls["statusQueryGetUri"])
            equal((status, body["runtimeStatus"]), (202, "Running"))
            equal(await sent("POST", text("suspendPostUri")), (202, None))
            await self.in_state(instance, State.Suspended)
            equal(await sent("POST", text("resumePostUri")), (202, None))
            await self.in_state(instance, State.Running)
            equal(await sent("POST", urls["sendEventPostUri"].format(eventName="go"), json="sent"), (202, None))
            equal((await self.over(instance)).output, ["sent"])
            status, _ = await sent("POST", text("rewindPostUri"))
            equal(status, 410)
            status, again = await sent("POST", urls["restartPostUri"])
            equal((status, again["id"] != instance), (202, True))
            equal(await sent("POST", again["terminatePostUri"].replace("{text}", "done")), (202, None))
            equal(await sent("DELETE", urls["purgeHistoryDeleteUri"]), (200, {"instancesDeleted": 1}))
            equal(await sent("GET", urls["statusQueryGetUri"]), (404, None))

    async def check_wait_for_completion_in_time_too_late_failed(self):
        wait = lambda instance, ms: self.client.wait_for_completion_or_create_check_status_response(
            self.request, instance, timeout_in_milliseconds=ms, retry_interval_in_milliseconds=50)
        done = await wait(await self.started("quick", echo({"quick": True})), 60_000)
        equal((done.status_code, json.loads(done.get_body())), (200, {"quick": True}))
        slow = await self.started("slow", waits(1))
        late = await wait(slow, 200)
        equal((late.status_code, json.loads(late.get_body())["id"]), (202, slow))
        await self.client.terminate(slow, "too slow")
        ended = await wait(slow, 60_000)
        equal((ended.status_code, json.loads(ended.get_body())["runtimeStatus"]), (200, "Terminated"))
        failing = await self.started("failing", {"do": "fail", "failure": {"code": "no", "message": "no"}})
        failed = await wait(failing, 60_000)
        equal((failed.status_code, json.loads(failed.get_body())["runtimeStatus"]), (500, "Failed"))

    async def check_raise_events_in_order_by_a_name_in_any_case(self):
        instance = await self.started("events", waits(3))
        payloads = [{"n": 1}, "two", 3]
        for name, payload in zip(["Go", "GO", "go"], payloads):
            await self.client.raise_event(instance, name, payload)
        # The client encodes events twice as well.
        equal([json.loads(text) for text in (await self.over(instance)).output], payloads)
        await raises(self.client.raise_event(instance, "Go", 4), "is gone")
        await raises(self.client.raise_event("nobody", "Go", 1), "No instance with ID nobody found")

    async def check_terminate(self):
        instance = await self.started("terminated", waits(1))
        await self.client.terminate(instance, "no longer needed")
        seen = await self.over(instance)
        equal((seen.runtime_status, "no longer needed" in seen.output), (State.Terminated, True))
        await self.client.terminate(instance, "again")
        await raises(self.client.terminate("nobody", "x"), "No instance with ID 'nobody' found")

    async def check_suspend_and_resume(self):
        instance = await self.started("suspended", waits(1))
        await self.client.suspend(instance, "a pause")
        await self.in_state(instance, State.Suspended)
        await self.client.raise_event(instance, "Go", "kept")
        await self.in_state(instance, State.Suspended)
        await self.client.resume(instance, "go on")
        equal((await self.over(instance)).output, ['"kept"'])
        await self.client.suspend(instance, "too late")
        await self.client.resume(instance, "too late")
        await raises(self.client.suspend("nobody", "x"), "No instance with ID 'nobody' found")

    async def check_rewind_an_instance_that_failed(self):
        server = MoodyServer()
        value = {"do": "rewindable", "activity": "ask", "count": 2, "input": {"url": server.url}}
        instance = await self.started("rewound", value)
        failed = await self.over(instance)
        equal((failed.runtime_status, "not today" in failed.output), (State.Failed, True))
        server.works = True
        await self.client.rewind(instance, "it works now")
        equal((await self.in_state(instance, State.Completed)).output, ["at last", "at last"])
        server.server.shutdown()
        await raises(self.client.rewind(instance, "x"), "only supported on failed")
        running = await self.started("running", waits(1))
        await raises(self.client.rewind(running, "x"), "has not ended")
        await self.client.terminate(running, "done")
        await raises(self.client.rewind("nobody", "x"), "No instance with ID nobody found")

    async def check_restart_as_a_new_instance_and_as_the_same(self):
        instance = await self.started("restarted", echo("again"))
        await self.over(instance)
        # The client gives the answer as it came, whatever its documentation says.
        new = (await self.client.restart(instance))["id"]
        equal(((await self.over(new)).output, new != instance), ("again", True))
        equal((await self.client.restart(instance, restart_with_new_instance_id=False))["id"], instance)
        equal((await self.over(instance)).output, "again")
        await raises(self.client.restart("nobody"), "status code 400")

    async def check_purge_one_instance(self):
        instance = await self.started("purged", echo(1))
        await self.over(instance)
        equal((await self.client.purge_instance_history(instance)).instances_deleted, 1)
        await self.missing(instance)
        equal((await self.client.purge_instance_history(instance)).instances_deleted, 0)

    async def check_list_and_purge_by_time_and_state_and_list_by_prefix(self):
        # The client takes times as UTC, whatever their zone.
        now = lambda: datetime.now(timezone.utc).replace(tzinfo=None)
        begun, prefix = now(), fresh_id("filtered")
        start = lambda what, value: self.client.start_new(WORKFLOW, f"{prefix}-{what}", value)
        done = [await start("a", echo(1)), await start("b", echo(2))]
        for instance in done:
            await self.over(instance)
        stopped, running = await start("c", waits(1)), await start("d", waits(1))
        await self.client.terminate(stopped, "done")
        ended = now() + timedelta(seconds=1)

        async def ids(*states, **more):
            listed = await self.client.get_status_by(begun, ended, list(states), **more)
            return sorted(seen.instance_id for seen in listed)

        equal(await ids(State.Completed), done)
        equal(await ids(State.Terminated, State.Running), [stopped, running])
        equal(await ids(), [*done, stopped, running])
        equal(await ids(instance_id_prefix=f"{prefix}-b"), done[1:])
        equal(await self.client.get_status_by(datetime(2000, 1, 1), datetime(2000, 1, 2)), [])
        purge = lambda *states: self.client.purge_instance_history_by(begun, ended, list(states))
        equal((await purge(State.Completed)).instances_deleted, 2)
        equal((await purge(State.Completed)).instances_deleted, 0)
        equal((await purge()).instances_deleted, 1)
        equal(await ids(), [running])
        await self.client.terminate(running, "done")

    async def check_list_more_than_one_page(self):
        started = await asyncio.gather(*(self.started("many", echo(n)) for n in range(MANY)))
        for instance in started:
            await self.over(instance)
        equal(len(await self.client.get_status_all()), PAGE)
        return f"this client reads no further than the first page, of {PAGE}"

    async def check_entity_signal_and_read(self):
        entity = EntityId(ENTITY, fresh_id("entity"))
        read = lambda: self.client.read_entity_state(entity)
        equal((await read()).entity_exists, False)
        await self.client.signal_entity(entity, "add", 5)
        await self.client.signal_entity(entity, "add", 3)
        eight = await until("a state of 8", read, lambda seen: seen.entity_state == 8)
        equal(eight.entity_exists, True)
        await self.client.signal_entity(entity, "delete")
        await until("no state", read, lambda seen: not seen.entity_exists)

    async def check_entity_list(self):
        return "this client has no call for it"


async def run(base):
    checks = Checks(base)
    for name in [name for name in vars(Checks) if name.startswith("check_")]:
        shown = name.removeprefix("check_").replace("_", " ")
        try:
            skipped = await asyncio.wait_for(getattr(checks, name)(), 2 * SOON_SECONDS)
            print(f"skip  {shown}: {skipped}" if skipped else f"ok    {shown}", flush=True)
        except Exception as error:  # whatever it is, it is what the check has to say
            print(f"FAIL  {shown}: {error!r}\n{traceback.format_exc()}", flush=True)
            return 1
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 2:
        print("usage: python client.py URL    URL: http://HOST:PORT/runtime/webhooks/durabletask", file=sys.stderr)
        sys.exit(2)
    code = asyncio.run(run(sys.argv[1].rstrip("/")))
    sys.stdout.flush()
    # The client keeps its connections and has no way to close them.
    os._exit(code)

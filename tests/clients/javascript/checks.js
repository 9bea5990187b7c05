//! The checks of the clients for JavaScript, which differ in how they are called but not in what they do. `df` is one of
//! them behind the same methods everywhere; what it does not have is `undefined` and is skipped, by name.
"use strict";

const { assert, moodyServer, until } = require("./harness");

const WORKFLOW = "guests";
const ENTITY = "entities";
/** More than a page has if nobody says how many. */
const MANY = 105;

const echo = (value) => ({ do: "echo", value });
const waits = (count) => ({ do: "signal", name: "Go", count });

let made = 0;
const freshId = (what) => `${what}-${process.pid}-${Date.now()}-${made++}`;

function checksOf(df) {
    const isOver = ({ runtimeStatus }) => ["Completed", "Failed", "Terminated", "Canceled"].includes(runtimeStatus);
    const status = (id, options) => df.status(id, options);
    const over = (id, options) => until(`the end of ${id}`, () => status(id, options), isOver);
    const inState = (id, wanted) =>
        until(`${id} in state ${wanted}`, () => status(id), ({ runtimeStatus }) => runtimeStatus === wanted);
    const started = (what, input) => df.start(WORKFLOW, freshId(what), input);

    /** A request to one of the URLs that a client hands out. */
    async function request(method, url, body) {
        const headers = body === undefined ? {} : { "content-type": "application/json" };
        const response = await fetch(url, { method, headers, body: body && JSON.stringify(body) });
        const text = await response.text();
        return { status: response.status, headers: response.headers, body: text ? JSON.parse(text) : null };
    }

    const checks = [];
    const check = (name, run) => checks.push([name, run]);

    check("start with an id of one's own", async () => {
        const id = freshId("own");
        assert.equal(await df.start(WORKFLOW, id, echo(1)), id);
        assert.equal((await over(id)).output, 1);
    });

    check("start with an id that the host makes", async () => {
        const id = await df.start(WORKFLOW, undefined, echo("made"));
        assert.match(id, /^[0-9a-f]{32}$/);
        assert.equal((await over(id)).output, "made");
    });

    check("start without an input", async () => {
        const id = await df.start(WORKFLOW, freshId("empty"), undefined);
        const { runtimeStatus, input } = await over(id);
        // What these clients send in its place is an empty string.
        assert.deepEqual([runtimeStatus, input], ["Failed", ""]);
    });

    check("start of a function that is not there", async () => {
        await assert.rejects(df.start("nobody", undefined, 1), /status code: 400.*nobody/);
    });

    check("start of an instance that runs already", async () => {
        const id = await started("twice", waits(1));
        await assert.rejects(df.start(WORKFLOW, id, waits(1)), /status code: 409/);
        await df.terminate(id, "done");
    });

    check("status of an instance that has ended", async () => {
        const before = Math.floor(Date.now() / 1000) * 1000;
        const id = await started("ended", echo({ a: [1, "two", null] }));
        const seen = await over(id, { showInput: true });
        assert.deepEqual(
            [seen.name, seen.instanceId, seen.runtimeStatus, seen.input, seen.output, seen.customStatus],
            [WORKFLOW, id, "Completed", echo({ a: [1, "two", null] }), { a: [1, "two", null] }, null],
        );
        for (const time of [seen.createdTime, seen.lastUpdatedTime].map((time) => new Date(time).getTime())) {
            assert.ok(time >= before && time <= Date.now() && time % 1000 === 0, `a time in whole seconds, got ${time}`);
        }
        const without = await status(id, { showInput: false });
        // Over its short way the clients do not send a no.
        assert.deepEqual(without.input, df.hasCode ? null : echo({ a: [1, "two", null] }));
    });

    check("status with a custom status", async () => {
        const id = await started("custom", { do: "status", value: { step: 3 } });
        const seen = await until("a custom status", () => status(id), ({ customStatus }) => customStatus !== null);
        assert.deepEqual([seen.runtimeStatus, seen.customStatus, seen.output], ["Running", { step: 3 }, null]);
        await df.terminate(id, "done");
    });

    check("status of an instance that failed", async () => {
        const failure = { kind: "application", code: "told-to", message: "it was told to fail" };
        const id = await started("failed", { do: "fail", failure });
        const { runtimeStatus, output } = await over(id);
        assert.equal(runtimeStatus, "Failed");
        assert.match(output, /it was told to fail/);
    });

    check("status of an instance that is not there", async () => {
        await df.checkMissing(() => status("nobody"));
    });

    check("history with results and without", async () => {
        const id = await started("history", { do: "sequence", name: "echo", count: 2 });
        await over(id);
        const { history } = await status(id, { showHistory: true, showHistoryOutput: true });
        const types = history.map(({ EventType }) => EventType);
        assert.deepEqual(types, ["ExecutionStarted", "TaskCompleted", "TaskCompleted", "ExecutionCompleted"]);
        assert.equal(history[0].FunctionName, WORKFLOW);
        const tasks = history.slice(1, 3);
        assert.deepEqual(tasks.map(({ FunctionName, Result }) => [FunctionName, Result]), [["echo", 0], ["echo", 1]]);
        for (const { Timestamp, ScheduledTime } of tasks) {
            assert.ok(new Date(ScheduledTime) <= new Date(Timestamp), `${ScheduledTime} before ${Timestamp}`);
        }
        assert.deepEqual([history[3].OrchestrationStatus, history[3].Result], ["Completed", [0, 1]]);
        const bare = (await status(id, { showHistory: true })).history;
        assert.deepEqual(bare.map((event) => "Result" in event), [false, false, false, false]);
        assert.equal((await status(id)).history, undefined);
    });

    check("the URLs of a check-status response", async () => {
        const id = await started("urls", waits(1));
        const seenAt = `${df.base}/anything`;
        const { status: code, headers, body: urls } = await df.checkStatusResponse(seenAt, id);
        assert.deepEqual([code, headers["retry-after"], headers.location], [202, "10", urls.statusQueryGetUri]);
        assert.deepEqual(urls, df.managementPayload(id));
        const text = (url) => url.replace("{text}", encodeURIComponent("over a URL"));
        const running = await request("GET", urls.statusQueryGetUri);
        assert.deepEqual([running.status, running.body.runtimeStatus], [202, "Running"]);
        assert.equal((await request("GET", running.headers.get("location"))).status, 202);
        assert.equal((await request("POST", text(urls.suspendPostUri))).status, 202);
        await inState(id, "Suspended");
        assert.equal((await request("POST", text(urls.resumePostUri))).status, 202);
        await inState(id, "Running");
        const event = urls.sendEventPostUri.replace("{eventName}", "go");
        assert.equal((await request("POST", event, "sent")).status, 202);
        assert.deepEqual((await over(id)).output, ["sent"]);
        assert.equal((await request("GET", urls.statusQueryGetUri)).status, 200);
        assert.equal((await request("POST", text(urls.rewindPostUri))).status, 410);
        const again = await request("POST", urls.restartPostUri);
        assert.equal(again.status, 202);
        assert.notEqual(again.body.id, id);
        await inState(again.body.id, "Running");
        // The host's own document, this time.
        assert.equal((await request("POST", text(again.body.terminatePostUri))).status, 202);
        assert.equal((await over(again.body.id)).runtimeStatus, "Terminated");
        assert.deepEqual((await request("DELETE", urls.purgeHistoryDeleteUri)).body, { instancesDeleted: 1 });
        assert.equal((await request("GET", urls.statusQueryGetUri)).status, 404);
    });

    check("wait for completion: in time, too late, failed", async () => {
        const url = `${df.base}/anything`;
        const quick = await started("quick", echo({ quick: true }));
        const done = await df.waitForCompletion(url, quick, 60_000, 50);
        assert.deepEqual([done.status, done.body], [200, { quick: true }]);
        const slow = await started("slow", waits(1));
        const late = await df.waitForCompletion(url, slow, 200, 50);
        assert.deepEqual([late.status, late.body.id], [202, slow]);
        assert.equal(late.headers.location, late.body.statusQueryGetUri);
        await df.terminate(slow, "too slow");
        const ended = await df.waitForCompletion(url, slow, 60_000, 50);
        assert.deepEqual([ended.status, ended.body.runtimeStatus], [200, "Terminated"]);
        const failing = await started("failing", { do: "fail", failure: { code: "no", message: "no" } });
        const failed = await df.waitForCompletion(url, failing, 60_000, 50);
        assert.deepEqual([failed.status, failed.body.runtimeStatus], [500, "Failed"]);
    });

    check("raise events, in order, by a name in any case", async () => {
        const id = await started("events", waits(3));
        await until("a wait", () => status(id), ({ runtimeStatus }) => runtimeStatus === "Running");
        for (const [name, payload] of [["Go", { n: 1 }], ["GO", "two"], ["go", 3]]) {
            await df.raiseEvent(id, name, payload);
        }
        assert.deepEqual((await over(id)).output, [{ n: 1 }, "two", 3]);
        // Too late is no error for these clients.
        await df.raiseEvent(id, "Go", 4);
        await assert.rejects(df.raiseEvent("nobody", "Go", 1), /No instance with ID 'nobody' found/);
    });

    check("terminate", async () => {
        const id = await started("terminated", waits(1));
        await df.terminate(id, "no longer needed");
        const { runtimeStatus, output } = await over(id);
        assert.equal(runtimeStatus, "Terminated");
        assert.match(output, /no longer needed/);
        await df.terminate(id, "again");
        await assert.rejects(df.terminate("nobody", "x"), /No instance with ID 'nobody' found/);
    });

    check("suspend and resume", async () => {
        if (!df.suspend) {
            return "this client can not suspend; the URLs of its check-status response can";
        }
        const id = await started("suspended", waits(1));
        await df.suspend(id, "a pause");
        await inState(id, "Suspended");
        await df.raiseEvent(id, "Go", "kept");
        assert.equal((await status(id)).runtimeStatus, "Suspended");
        await df.resume(id, "go on");
        assert.deepEqual((await over(id)).output, ["kept"]);
        await df.suspend(id, "too late");
        await df.resume(id, "too late");
        await assert.rejects(df.suspend("nobody", "x"), /No instance with ID 'nobody' found/);
    });

    check("rewind an instance that failed", async () => {
        const server = await moodyServer();
        const input = { do: "rewindable", activity: "ask", count: 2, input: { url: server.url } };
        const id = await started("rewound", input);
        const failed = await over(id);
        assert.equal(failed.runtimeStatus, "Failed");
        assert.match(failed.output, /not today/);
        server.repair();
        await df.rewind(id, "it works now");
        const rewound = await inState(id, "Completed");
        assert.deepEqual(rewound.output, ["at last", "at last"]);
        server.close();
        await assert.rejects(df.rewind(id, "x"), /only supported on failed/);
        const running = await started("running", waits(1));
        await assert.rejects(df.rewind(running, "x"), /status code: 409/);
        await df.terminate(running, "done");
        await assert.rejects(df.rewind("nobody", "x"), /No instance with ID 'nobody' found/);
    });

    check("restart", async () => "this client has no call for it; the URLs of its check-status response have");

    check("purge one instance", async () => {
        const id = await started("purged", echo(1));
        await over(id);
        assert.equal((await df.purge(id)).instancesDeleted, 1);
        await df.checkMissing(() => status(id));
        assert.equal((await df.purge(id)).instancesDeleted, 0);
    });

    check("list and purge by time and state", async () => {
        const from = new Date();
        const done = [await started("filtered", echo(1)), await started("filtered", echo(2))];
        await Promise.all(done.map((id) => over(id)));
        const stopped = await started("filtered", waits(1));
        await df.terminate(stopped, "done");
        const open = await started("filtered", waits(1));
        const to = new Date(Date.now() + 1000);
        const ids = async (...states) => (await df.list(from, to, states)).map(({ instanceId }) => instanceId).sort();
        assert.deepEqual(await ids("Completed"), [...done].sort());
        assert.deepEqual(await ids("Terminated", "Running"), [stopped, open].sort());
        assert.deepEqual(await ids(), [...done, stopped, open].sort());
        assert.deepEqual(await df.list(new Date(0), new Date(1000), []), []);
        assert.equal((await df.purgeBy(from, to, ["Completed"])).instancesDeleted, 2);
        assert.equal((await df.purgeBy(from, to, ["Completed"])).instancesDeleted, 0);
        assert.equal((await df.purgeBy(from, to, [])).instancesDeleted, 1);
        assert.deepEqual(await ids(), [open]);
        await df.terminate(open, "done");
    });

    check("list more than one page", async () => {
        const ids = await Promise.all(Array.from({ length: MANY }, (_, n) => started("many", echo(n))));
        await Promise.all(ids.map((id) => over(id)));
        const listed = await df.listAll();
        const seen = new Map(listed.map((one) => [one.instanceId, one.output]));
        assert.equal(seen.size, listed.length, "no instance is listed twice");
        assert.deepEqual(ids.map((id) => seen.get(id)), ids.map((_, n) => n));
    });

    check("entity: signal and read", async () => {
        const key = freshId("entity");
        const read = () => df.readEntity(ENTITY, key);
        assert.equal((await read()).entityExists, false);
        await df.signalEntity(ENTITY, key, "add", 5);
        await df.signalEntity(ENTITY, key, "add", 3);
        const eight = await until("a state of 8", read, ({ entityState }) => entityState === 8);
        assert.equal(eight.entityExists, true);
        await df.signalEntity(ENTITY, key, "set", -1);
        await until("a state of -1", read, ({ entityState }) => entityState === -1);
        await df.signalEntity(ENTITY, key, "delete", undefined);
        await until("no state", read, ({ entityExists }) => !entityExists);
    });

    check("entity: list", async () => "this client has no call for it");

    return checks;
}

module.exports = { checksOf };

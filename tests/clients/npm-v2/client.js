//! The checks with the client of the package `durable-functions` 2, as it is published.
"use strict";

const durable = require("durable-functions");
const { assert, clientData, fromCommandLine, run } = require("../javascript/harness");
const { checksOf } = require("../javascript/checks");

const where = fromCommandLine();
const client = durable.getClient({ bindings: { client: clientData(where) } });

/** A response, with its body as a value and its headers' names in lower case. */
function seen({ status, headers, body }) {
    const lower = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), String(value)]);
    return { status, headers: Object.fromEntries(lower), body: typeof body === "string" ? JSON.parse(body) : body };
}

const entity = (name, key) => new durable.EntityId(name, key);

run(
    checksOf({
        base: where.base,
        hasCode: where.code !== undefined,
        start: (name, id, input) => client.startNew(name, id, input),
        status: (id, { showHistory, showHistoryOutput, showInput } = {}) =>
            client.getStatus(id, showHistory, showHistoryOutput, showInput),
        // This one gives the empty body as it came.
        checkMissing: async (ask) => assert.equal(await ask(), ""),
        list: (from, to, states) => client.getStatusBy(from, to, states),
        listAll: () => client.getStatusAll(),
        checkStatusResponse: async (url, id) => seen(client.createCheckStatusResponse({ url, http: undefined }, id)),
        managementPayload: (id) => client.createHttpManagementPayload(id),
        waitForCompletion: async (url, id, timeoutMs, intervalMs) =>
            seen(await client.waitForCompletionOrCreateCheckStatusResponse({ url }, id, timeoutMs, intervalMs)),
        raiseEvent: (id, name, payload) => client.raiseEvent(id, name, payload),
        terminate: (id, reason) => client.terminate(id, reason),
        suspend: undefined,
        resume: undefined,
        rewind: (id, reason) => client.rewind(id, reason),
        purge: (id) => client.purgeInstanceHistory(id),
        purgeBy: (from, to, states) => client.purgeInstanceHistoryBy(from, to, states),
        readEntity: (name, key) => client.readEntityState(entity(name, key)),
        signalEntity: (name, key, operation, input) => client.signalEntity(entity(name, key), operation, input),
    }),
);

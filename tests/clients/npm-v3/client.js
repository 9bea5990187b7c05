//! The checks with the client of the package `durable-functions` 3, as it is published.
"use strict";

const durable = require("durable-functions");
const { assert, clientData, fromCommandLine, run } = require("../javascript/harness");
const { checksOf } = require("../javascript/checks");

const where = fromCommandLine();
const input = durable.input.durableClient();
const client = durable.getClient({
    options: { extraInputs: [input] },
    extraInputs: new Map([[input, clientData(where)]]),
});

/** A response, with its body as a value and its headers' names in lower case. */
async function seen(response) {
    return { status: response.status, headers: Object.fromEntries(response.headers), body: await response.json() };
}

const entity = (name, key) => new durable.EntityId(name, key);

run(
    checksOf({
        base: where.base,
        hasCode: where.code !== undefined,
        start: (name, instanceId, input) => client.startNew(name, { instanceId, input }),
        status: (id, options) => client.getStatus(id, options),
        checkMissing: (ask) => assert.rejects(ask(), /HTTP 404/),
        list: (createdTimeFrom, createdTimeTo, runtimeStatus) =>
            client.getStatusBy({ createdTimeFrom, createdTimeTo, runtimeStatus }),
        listAll: () => client.getStatusAll(),
        checkStatusResponse: (url, id) => seen(client.createCheckStatusResponse({ url }, id)),
        managementPayload: (id) => client.createHttpManagementPayload(id),
        waitForCompletion: async (url, id, timeoutInMilliseconds, retryIntervalInMilliseconds) => {
            const options = { timeoutInMilliseconds, retryIntervalInMilliseconds };
            return seen(await client.waitForCompletionOrCreateCheckStatusResponse({ url }, id, options));
        },
        raiseEvent: (id, name, payload) => client.raiseEvent(id, name, payload),
        terminate: (id, reason) => client.terminate(id, reason),
        suspend: (id, reason) => client.suspend(id, reason),
        resume: (id, reason) => client.resume(id, reason),
        rewind: (id, reason) => client.rewind(id, reason),
        purge: (id) => client.purgeInstanceHistory(id),
        purgeBy: (createdTimeFrom, createdTimeTo, runtimeStatus) =>
            client.purgeInstanceHistoryBy({ createdTimeFrom, createdTimeTo, runtimeStatus }),
        readEntity: (name, key) => client.readEntityState(entity(name, key)),
        signalEntity: (name, key, operation, input) => client.signalEntity(entity(name, key), operation, input),
    }),
);

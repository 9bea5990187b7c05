//! What the programs for JavaScript stand on: named checks, waiting with a deadline, the data from which an Azure host
//! would make a client. Exits with 1 at the first check that fails.
"use strict";

const assert = require("node:assert/strict");
const http = require("node:http");

/** How long a check waits for what should happen soon, in milliseconds. Generous: it only passes when one fails. */
const SOON_MS = 60_000;
const POLL_MS = 20;

const pause = () => new Promise((resolve) => setTimeout(resolve, POLL_MS));

/** Asks until `condition` gives something true, and gives that; fails with what it saw last. */
async function until(what, ask, condition) {
    const deadline = Date.now() + SOON_MS;
    for (;;) {
        const seen = await ask();
        if (condition(seen)) {
            return seen;
        }
        if (Date.now() > deadline) {
            throw new Error(`expected ${what} within ${SOON_MS} ms, got ${JSON.stringify(seen)}`);
        }
        await pause();
    }
}

/** `work`, or a failure if it takes too long. */
function withDeadline(work) {
    let timer;
    const tooLong = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`expected an end within ${2 * SOON_MS} ms, got none`)), 2 * SOON_MS);
    });
    return Promise.race([work, tooLong]).finally(() => clearTimeout(timer));
}

/** Runs checks, each `[name, function]`, one after another. A check that is not for this client gives why, as text. */
async function run(checks) {
    for (const [name, check] of checks) {
        try {
            const skipped = await withDeadline(check());
            console.log(skipped === undefined ? `ok    ${name}` : `skip  ${name}: ${skipped}`);
        } catch (error) {
            console.log(`FAIL  ${name}: ${error.message}`);
            console.log(error.stack);
            process.exit(1);
        }
    }
    process.exit(0);
}

/** The URL of the API and the key, from the command line. */
function fromCommandLine() {
    const [base, code] = process.argv.slice(2);
    if (!base) {
        console.error("usage: node client.js URL [CODE]    URL: http://HOST:PORT/runtime/webhooks/durabletask");
        process.exit(2);
    }
    return { base: base.replace(/\/$/, ""), code };
}

/**
 * What an Azure host hands to a function that asks for a client. Without a key the client uses its short way, URLs
 * relative to `rpcBaseUrl`; that way knows no key, so with one it gets whole URLs only.
 */
function clientData({ base, code }) {
    // Otherwise the clients believe that they are being developed on the default port of the Azure tools.
    process.env.WEBSITE_HOSTNAME = new URL(base).host;
    const id = "INSTANCEID";
    const query = `taskHub=Checks&connection=Storage${code ? `&code=${encodeURIComponent(code)}` : ""}`;
    const instance = `${base}/instances/${id}`;
    return {
        taskHubName: "Checks",
        creationUrls: {
            createNewInstancePostUri: `${base}/orchestrators/{functionName}[/{instanceId}]?${query}`,
        },
        managementUrls: {
            id,
            statusQueryGetUri: `${instance}?${query}`,
            sendEventPostUri: `${instance}/raiseEvent/{eventName}?${query}`,
            terminatePostUri: `${instance}/terminate?reason={text}&${query}`,
            rewindPostUri: `${instance}/rewind?reason={text}&${query}`,
            purgeHistoryDeleteUri: `${instance}?${query}`,
            restartPostUri: `${instance}/restart?${query}`,
            suspendPostUri: `${instance}/suspend?reason={text}&${query}`,
            resumePostUri: `${instance}/resume?reason={text}&${query}`,
        },
        baseUrl: base,
        requiredQueryStringParameters: query,
        rpcBaseUrl: code ? undefined : `${base}/`,
    };
}

/** A server that refuses until it is told to work: what an activity depends on. */
async function moodyServer() {
    let works = false;
    const server = http.createServer((_, response) => {
        response.writeHead(works ? 200 : 400, { "content-type": "application/json" });
        response.end(JSON.stringify(works ? "at last" : "not today"));
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    return {
        url: `http://127.0.0.1:${server.address().port}/`,
        repair: () => {
            works = true;
        },
        close: () => server.close(),
    };
}

module.exports = { assert, clientData, fromCommandLine, moodyServer, run, until };

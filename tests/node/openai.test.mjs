// The unmodified openai package for Node against a real server. Started by tests/integration/service/test_openai_node.py,
// which names the server and a key in the environment.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import test from "node:test";

import OpenAI, { toFile } from "openai";

const { GUARDRAILS_URL: baseURL, GUARDRAILS_KEY: apiKey, GUARDRAILS_PICTURE: picture } = process.env;
const PROMPT = "a red apple on a table";
// The default pack's own harmless placeholders: blocked by a rule, and held for a review by another one.
const BLOCKED = "guardrails test minor guardrails test explicit";
const HELD = "n4k3d woman";
const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47]);

const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });

function bytes(item) {
  return Buffer.from(item.b64_json, "base64");
}

/** A client whose first requests are lost on the way back: they reach the server, and the answer is thrown away. */
function forgetful(lost, options = {}) {
  const seen = [];
  const losing = async (url, init) => {
    const answer = await fetch(url, init);
    seen.push(new Headers(init.headers));
    if (seen.length <= lost) {
      await answer.arrayBuffer();
      throw new TypeError("the connection was lost");
    }
    return answer;
  };
  return { client: new OpenAI({ baseURL, apiKey, fetch: losing, ...options }), seen };
}

test("a picture as base64, with its evidence", async () => {
  const answer = await client.images.generate({ prompt: PROMPT });
  assert.equal(answer.data.length, 1);
  assert.deepEqual(bytes(answer.data[0]).subarray(0, 4), PNG);
  const { guardrails } = answer.data[0];
  assert.deepEqual([guardrails.c2pa, guardrails.watermark], ["trusted", "embedded"]);
  assert.ok(guardrails.checks.every((check) => check.ran && check.verdict === "pass"));
  assert.match(answer._request_id, /^req_/);
});

test("a picture as a signed address", async () => {
  const answer = await client.images.generate({ prompt: PROMPT, response_format: "url" });
  assert.equal(answer.data[0].b64_json, undefined);
  const fetched = await fetch(answer.data[0].url);
  assert.equal(fetched.headers.get("content-type"), "image/png");
  assert.deepEqual(Buffer.from(await fetched.arrayBuffer()).subarray(0, 4), PNG);
});

test("several pictures in another format", async () => {
  const answer = await client.images.generate({ prompt: PROMPT, n: 3, output_format: "jpeg", size: "512x512" });
  assert.equal(new Set(answer.data.map((item) => item.b64_json)).size, 3);
  for (const item of answer.data) assert.deepEqual([...bytes(item).subarray(0, 3)], [0xff, 0xd8, 0xff]);
  assert.deepEqual([answer.output_format, answer.size], ["jpeg", "512x512"]);
});

test("a stream ends with the released picture and shows nothing before it", async () => {
  const stream = await client.images.generate({ prompt: PROMPT, stream: true, partial_images: 2 });
  const events = [];
  for await (const event of stream) events.push(event);
  assert.deepEqual(events.map((event) => event.type), ["image_generation.completed"]);
  assert.deepEqual(bytes(events[0]).subarray(0, 4), PNG);
  assert.equal(events[0].usage.total_tokens, 0);
});

test("a refusal inside a stream", async () => {
  const stream = await client.images.generate({ prompt: BLOCKED, stream: true });
  await assert.rejects(
    async () => {
      for await (const event of stream) assert.fail(`nothing may be shown: ${event.type}`);
    },
    (error) => error instanceof OpenAI.APIError && error.code === "moderation_blocked",
  );
});

test("an edit of an uploaded picture", async () => {
  const image = await toFile(Buffer.from(picture, "base64"), "in.png", { type: "image/png" });
  const answer = await client.images.edit({ image, prompt: "a boat" });
  assert.equal(answer.data[0].guardrails.c2pa, "trusted");
});

test("an edit as a stream", async () => {
  const image = await toFile(Buffer.from(picture, "base64"), "in.png", { type: "image/png" });
  const types = [];
  for await (const event of await client.images.edit({ image: [image], prompt: "a boat", stream: true })) {
    types.push(event.type);
  }
  assert.deepEqual(types, ["image_edit.completed"]);
});

test("a blocked prompt is a BadRequestError that says why", async () => {
  await assert.rejects(client.images.generate({ prompt: BLOCKED }), (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.deepEqual([error.status, error.code, error.type], [400, "moderation_blocked", "image_generation_user_error"]);
    assert.equal(error.error.moderation_details.moderation_stage, "input");
    assert.ok(error.error.moderation_details.categories.includes("sexual/minors"));
    assert.match(error.error.guardrails.decision_id, /^[0-9a-f-]{36}$/);
    assert.match(error.requestID, /^req_/);
    return true;
  });
});

test("a refusal is not asked again", async () => {
  const { client: patient, seen } = forgetful(0, { maxRetries: 3 });
  await assert.rejects(patient.images.generate({ prompt: BLOCKED }), OpenAI.BadRequestError);
  assert.equal(seen.length, 1);
});

test("a held prompt says that it waits", async () => {
  await assert.rejects(client.images.generate({ prompt: HELD }), (error) => {
    assert.equal(error.error.guardrails.review, "waiting");
    return true;
  });
});

test("a wrong parameter is named", async () => {
  await assert.rejects(client.images.generate({ prompt: PROMPT, n: 11 }), (error) => {
    assert.deepEqual([error.constructor, error.param, error.code], [OpenAI.BadRequestError, "n", "invalid_value"]);
    return true;
  });
});

test("a wrong key is an AuthenticationError", async () => {
  const stranger = new OpenAI({ baseURL, apiKey: "sk-0000000000000000000000000000000000", maxRetries: 0 });
  await assert.rejects(stranger.images.generate({ prompt: PROMPT }), (error) => {
    assert.ok(error instanceof OpenAI.AuthenticationError);
    assert.equal(error.code, "invalid_api_key");
    return true;
  });
});

test("a client that lost two answers and retries by itself makes one picture", async () => {
  const { client: patient, seen } = forgetful(2, { maxRetries: 2 });
  const prompt = `a red apple ${randomUUID()}`;
  const newest = async (limit) => (await client.get(`/jobs?limit=${limit}`)).data.map((job) => job.id);
  const before = await newest(1);
  const { data, response } = await patient.images.generate({ prompt }).withResponse();
  assert.deepEqual(seen.map((headers) => headers.get("x-stainless-retry-count")), ["0", "1", "2"]);
  assert.equal(response.headers.get("idempotent-replayed"), "true");
  assert.deepEqual(await newest(2), [data.guardrails.job_id, ...before]);
  const again = await client.images.generate({ prompt }, { headers: { "x-stainless-retry-count": "1" } });
  assert.equal(again.data[0].guardrails.record_id, data.data[0].guardrails.record_id);
});

test("an idempotency key makes one picture, and belongs to one request", async () => {
  const headers = { "Idempotency-Key": randomUUID() };
  const first = await client.images.generate({ prompt: PROMPT, n: 2 }, { headers });
  const again = await client.images.generate({ prompt: PROMPT, n: 2 }, { headers });
  const ids = (answer) => answer.data.map((item) => item.guardrails.record_id);
  assert.deepEqual(ids(again), ids(first));
  await assert.rejects(client.images.generate({ prompt: "a boat" }, { headers }), OpenAI.UnprocessableEntityError);
});

test("a text is moderated in all official categories", async () => {
  const answer = await client.moderations.create({ input: ["a fox in the snow", BLOCKED] });
  assert.deepEqual(answer.results.map((result) => result.flagged), [false, true]);
  assert.equal(answer.results[1].categories["sexual/minors"], true);
  assert.deepEqual(answer.results[1].category_applied_input_types["sexual/minors"], ["text"]);
  assert.ok(Object.keys(answer.results[0].categories).length >= 13);
});

test("a picture and its caption are moderated together", async () => {
  const url = `data:image/png;base64,${picture}`;
  const input = [{ type: "text", text: HELD }, { type: "image_url", image_url: { url } }];
  const answer = await client.moderations.create({ model: "omni-moderation-latest", input });
  assert.equal(answer.results.length, 1);
  assert.ok(answer.results[0].flagged);
  assert.ok(answer.results[0].guardrails.checks.length > 0);
  const elsewhere = [{ type: "image_url", image_url: { url: "https://example.org/a.png" } }];
  await assert.rejects(client.moderations.create({ input: elsewhere }), (error) => error.code === "url_not_supported");
});

test("the models are listed and found", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.ok(ids.length >= 2);
  assert.equal((await client.models.retrieve(ids[0])).id, ids[0]);
  await assert.rejects(client.models.retrieve("no-such-model"), OpenAI.NotFoundError);
});

test("a picture of ours is recognised", async () => {
  const made = await client.images.generate({ prompt: PROMPT, output_format: "webp" });
  const body = new FormData();
  body.append("file", await toFile(bytes(made.data[0]), "x.webp"));
  const answer = await client.post("/content_provenance_checks", { body });
  assert.deepEqual([answer.results[0].outcome, answer.guardrails.verdict], ["detected", "confirmed"]);
});

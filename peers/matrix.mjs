// Clients of the TypeScript SDK, one for each of many servers. Reads JSON from standard input:
// {targets: {NAME: {transport, target, mode}}, steps: {STEP: {method, params}}, patience, abreast}.
// Prints {NAME: {STEP: {result} | {code} | {failed} | {waiting: true}}}, nothing behind a step that
// has waited. `target` is a URL or a command as a list; `patience` is in ms.
import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

let input = "";
for await (const chunk of process.stdin.setEncoding("utf8")) input += chunk;
const { targets, steps, patience, abreast } = JSON.parse(input);
const MAX_PAGES = 8;
const WAITING = Symbol("waiting");

const transports = {
  http: (target) => new StreamableHTTPClientTransport(new URL(target)),
  sse: (target) => new SSEClientTransport(new URL(target)),
  stdio: ([command, ...args]) => new StdioClientTransport({ command, args, stderr: "ignore" }),
};
const members = {
  "tools/list": "tools",
  "prompts/list": "prompts",
  "resources/list": "resources",
  "resources/templates/list": "resourceTemplates",
};
const methods = {
  "tools/list": (client, params) => client.listTools(params),
  "prompts/list": (client, params) => client.listPrompts(params),
  "resources/list": (client, params) => client.listResources(params),
  "resources/templates/list": (client, params) => client.listResourceTemplates(params),
  "tools/call": (client, params) => client.callTool(params),
  "prompts/get": (client, params) => client.getPrompt(params),
  "resources/read": (client, params) => client.readResource(params),
};

const intime = (promise, time) => {
  let timer;
  const late = new Promise((resolve) => { timer = setTimeout(() => resolve(WAITING), time); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
};

const pages = async (client, method) => {
  const items = [];
  let cursor;
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const result = await methods[method](client, cursor ? { cursor } : undefined);
    items.push(...result[members[method]]);
    cursor = result.nextCursor;
    if (!cursor) break;
  }
  return items;
};

const taken = async (client, { method, params }) => {
  const running = method in members ? pages(client, method) : methods[method](client, params);
  try {
    const result = await intime(running, patience);
    return result === WAITING ? { waiting: true } : { result };
  } catch (error) {
    return typeof error.code === "number"
      ? { code: error.code } : { failed: String(error.message ?? error).slice(0, 200) };
  }
};

const held = async ({ transport, target, mode }) => {
  const found = {};
  const client = new Client(
    { name: "mcpproxy-peers", version: "1.0.0" },
    { versionNegotiation: { mode: mode === "legacy" ? "legacy" : { pin: mode } } },
  );
  client.onerror = () => {};
  try {
    if (await intime(client.connect(transports[transport](target)), 3 * patience) !== WAITING) {
      for (const [name, step] of Object.entries(steps)) {
        found[name] = await taken(client, step);
        if (found[name].waiting) break;
      }
    }
  } catch {
    // No session: no step has an outcome.
  }
  await intime(client.close().catch(() => {}), patience);
  return found;
};

// Standard output is for the results; the SDK writes warnings to it.
for (const level of ["log", "info", "debug", "warn", "error"]) console[level] = () => {};
const results = {};
const names = Object.keys(targets);
process.on("unhandledRejection", () => {});
await Promise.all(Array.from({ length: abreast }, async () => {
  for (let name = names.shift(); name !== undefined; name = names.shift()) {
    results[name] = await held(targets[name]);
  }
}));
process.stdout.write(JSON.stringify(results), () => process.exit(0));

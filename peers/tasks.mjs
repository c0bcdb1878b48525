// A client of @modelcontextprotocol/ext-tasks: calls one tool and prints its outcome.
// Usage: node tasks.mjs URL MODE TOOL ARGUMENTS
// MODE is legacy or 2026-07-28; ARGUMENTS is JSON. Questions are answered with {"confirm": "yes"}.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { createTaskSessionFromClient } from "@modelcontextprotocol/ext-tasks/client";

const [url, mode, tool, given] = process.argv.slice(2);
const modern = mode !== "legacy";
const clientInfo = { name: "mcpproxy-tasks", version: "1.0.0" };
const clientCapabilities = {
  elicitation: { form: {} },
  extensions: { "io.modelcontextprotocol/tasks": {} },
};
const client = new Client(clientInfo, {
  capabilities: clientCapabilities,
  versionNegotiation: { mode: modern ? { pin: mode } : "legacy" },
});
await client.connect(new StreamableHTTPClientTransport(new URL(url)));

let id = 0;
const NAMED = { "tools/call": "name" };
const seen = [];

// The SDK's client refuses the results of tasks, so these requests go past it.
async function rawDispatch(request) {
  seen.push(request.method);
  const name = request.params[NAMED[request.method] ?? "taskId"];
  const answer = await fetch(url, {
    method: "POST",
    headers: {
      accept: "application/json, text/event-stream",
      "content-type": "application/json",
      "mcp-protocol-version": mode,
      "mcp-method": request.method,
      "mcp-name": name,
    },
    body: JSON.stringify({ ...request, jsonrpc: "2.0", id: ++id }),
  });
  const text = await answer.text();
  const message = JSON.parse(text.startsWith("{") ? text : text.split("data: ").at(-1));
  return "result" in message
    ? { kind: "result", result: message.result }
    : { kind: "error", error: message.error };
}

const session = createTaskSessionFromClient(client, {
  endpointId: "proxy",
  onInputRequest: async () => ({ action: "accept", content: { confirm: "yes" } }),
  ...(modern
    ? { rawDispatch, v2RequestFraming: { protocolVersion: mode, clientInfo, clientCapabilities } }
    : {}),
});
const execution = await session.callTool(tool, JSON.parse(given));
const { outcome } = await execution.settle();
console.log(JSON.stringify({ kind: execution.kind, outcome, seen }));
await session.close();
await client.close();

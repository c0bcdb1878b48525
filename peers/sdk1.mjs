// A client of the TypeScript SDK's major version 1, which speaks 2025-11-25 at most.
// Usage: node sdk1.mjs http|sse URL MODE, and requests on standard input, as in client.mjs.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { answered, given } from "./requests.mjs";

const [kind, target] = process.argv.slice(2);
const Transport = { http: StreamableHTTPClientTransport, sse: SSEClientTransport }[kind];
const transport = new Transport(new URL(target));
const client = new Client({ name: "mcpproxy-peers", version: "1.0.0" }, { capabilities: {} });

const methods = {
  "tools/list": (params) => client.listTools(params),
  "prompts/list": (params) => client.listPrompts(params),
  "resources/list": (params) => client.listResources(params),
  "resources/templates/list": (params) => client.listResourceTemplates(params),
  "tools/call": (params, options) => client.callTool(params, undefined, options),
  "prompts/get": (params) => client.getPrompt(params),
  "resources/read": (params) => client.readResource(params),
  "completion/complete": (params) => client.complete(params),
};

await client.connect(transport);
const answers = [];
for (const request of given) answers.push(await answered(methods, request));
const revision = transport.protocolVersion;
await client.close();
console.log(JSON.stringify({ revision, answers }));

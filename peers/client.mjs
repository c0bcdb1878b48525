// A client of the TypeScript SDK: sends the requests given on standard input (JSON: a list of
// {method, params}) one after another, answers what servers ask in a fixed way, and prints what came.
// Usage: node client.mjs http|sse|stdio TARGET MODE CAPABILITIES
// TARGET is a URL, or a command as a JSON list; MODE is legacy or a revision; CAPABILITIES is JSON.
import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { answered, given } from "./requests.mjs";

const [kind, target, mode, capabilities] = process.argv.slice(2);

const transports = {
  http: () => new StreamableHTTPClientTransport(new URL(target)),
  sse: () => new SSEClientTransport(new URL(target)),
  stdio: () => {
    const [command, ...args] = JSON.parse(target);
    return new StdioClientTransport({ command, args, stderr: "ignore" });
  },
};

const client = new Client(
  { name: "mcpproxy-peers", version: "1.0.0" },
  {
    capabilities: JSON.parse(capabilities),
    versionNegotiation: { mode: mode === "legacy" ? "legacy" : { pin: mode } },
  },
);
const asked = [];
const note = (request) => asked.push({ method: request.method, params: request.params });
const answering = {
  sampling: ["sampling/createMessage", () => ({
    role: "assistant", model: "none", content: { type: "text", text: "Paris" },
  })],
  elicitation: ["elicitation/create", () => ({
    action: "accept", content: { name: "Bo", check: true },
  })],
  roots: ["roots/list", () => ({ roots: [{ uri: "file:///work", name: "work" }] })],
};
for (const capability of Object.keys(JSON.parse(capabilities))) {
  const [method, answer] = answering[capability];
  client.setRequestHandler(method, async (request) => {
    note(request);
    return answer();
  });
}

const methods = {
  "tools/list": (params) => client.listTools(params),
  "prompts/list": (params) => client.listPrompts(params),
  "resources/list": (params) => client.listResources(params),
  "resources/templates/list": (params) => client.listResourceTemplates(params),
  "tools/call": (params, options) => client.callTool(params, options),
  "prompts/get": (params) => client.getPrompt(params),
  "resources/read": (params) => client.readResource(params),
  "completion/complete": (params) => client.complete(params),
};

await client.connect(transports[kind]());
const answers = [];
for (const request of given) {
  const begun = asked.length;
  const answer = await answered(methods, request);
  answers.push("error" in answer ? answer : { ...answer, asked: asked.slice(begun) });
}
const revision = client.getNegotiatedProtocolVersion();
await client.close();
console.log(JSON.stringify({ revision, answers }));

// The AI SDK's client, which has no progress.
// Usage: node ai.mjs http|sse URL MODE, and requests on standard input, as in client.mjs.
import { createMCPClient } from "@ai-sdk/mcp";
import { answered, given } from "./requests.mjs";

const [type, url, mode] = process.argv.slice(2);
const client = await createMCPClient({
  transport: { type, url },
  clientName: "mcpproxy-peers",
  protocolVersionDiscovery: mode !== "legacy",
});
const options = { timeout: 30000 };
const methods = {
  "tools/list": (params) => client.listTools({ params, options }),
  "prompts/list": (params) => client.listPrompts({ params, options }),
  "resources/list": (params) => client.listResources({ params, options }),
  "resources/templates/list": () => client.listResourceTemplates({ options }),
  "tools/call": (params) => client.callTool({ ...params, options }),
  "prompts/get": (params) => client.getPrompt({ ...params, options }),
  "resources/read": (params) => client.readResource({ ...params, options }),
  "completion/complete": (params) => client.complete({ ...params, options }),
};

const answers = [];
for (const request of given) answers.push(await answered(methods, request));
const revision = client.initializeResult.protocolVersion;
await client.close();
console.log(JSON.stringify({ revision, answers }));

// Lists everything behind a URL and calls a tool of each demo server; prints what it got as JSON.
// Usage: node client.mjs URL (legacy | REVISION)
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const [url, mode] = process.argv.slice(2);
const negotiation = mode === "legacy" ? "legacy" : { pin: mode };
const client = new Client(
  { name: "mcpproxy-e2e", version: "1.0.0" },
  { versionNegotiation: { mode: negotiation } },
);
await client.connect(new StreamableHTTPClientTransport(new URL(url)));

const call = async (name, args) => {
  const result = await client.callTool({ name, arguments: args });
  if (result.isError) throw new Error(`${name}: ${JSON.stringify(result.content)}`);
  return result.structuredContent;
};
const found = {
  revision: client.getNegotiatedProtocolVersion(),
  tools: (await client.listTools()).tools.map((tool) => tool.name),
  prompts: (await client.listPrompts()).prompts.map((prompt) => prompt.name),
  resources: (await client.listResources()).resources.map((resource) => resource.uri),
  forecast: await call("weather_get_forecast", { city: "Oslo" }),
  count: await call("counter_increment", { by: 3 }),
  notes: await call("notes_search_notes", { text: "coffee" }),
};
await client.close();
console.log(JSON.stringify(found));

// A server of the TypeScript SDK that speaks both eras and takes its time to start.
// Usage: node slow.mjs SECONDS
import { McpServer } from "@modelcontextprotocol/server";
import { serveStdio } from "@modelcontextprotocol/server/stdio";

const seconds = Number(process.argv[2]);

function served({ era }) {
  const server = new McpServer({ name: "slow", version: "1.0.0" });
  const spoken = { description: "The era in which this process is spoken to." };
  server.registerTool("era", spoken, async () => ({ content: [{ type: "text", text: era }] }));
  return server;
}

setTimeout(() => serveStdio(served), seconds * 1000);

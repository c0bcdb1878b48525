// A server of the legacy era without dependencies: one tool that says what it was told.
const lines = require("node:readline").createInterface({ input: process.stdin });

const answers = {
  initialize: (params) => ({
    protocolVersion: params.protocolVersion,
    capabilities: { tools: {} },
    serverInfo: { name: "echo", version: "1" },
  }),
  ping: () => ({}),
  "tools/list": () => ({ tools: [{ name: "echo", inputSchema: { type: "object" } }] }),
  "tools/call": (params) => ({ content: [{ type: "text", text: params.arguments.say }] }),
};

lines.on("line", (line) => {
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) return;
  const answer = answers[method];
  const error = { code: -32601, message: "method not found" };
  const body = answer ? { result: answer(params) } : { error };
  console.log(JSON.stringify({ jsonrpc: "2.0", id, ...body }));
});

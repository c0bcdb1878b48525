// A client of the TypeScript SDK, of major version 1 or 2, that signs in by itself: discovery,
// registration and authorization code with PKCE, or client credentials. It lists the tools twice, in
// two connections with one token.
// Usage: node oauth.mjs 1|2 URL REDIRECT_URL BROWSER..., where BROWSER prints the URL to which the
// provider sends the user back; or node oauth.mjs 2 URL - ID SECRET for client credentials.
import { execFileSync } from "node:child_process";

const [major, target, redirectUrl, ...rest] = process.argv.slice(2);
const sdk = major === "1"
  ? {
      ...(await import("@modelcontextprotocol/sdk/client/index.js")),
      ...(await import("@modelcontextprotocol/sdk/client/streamableHttp.js")),
      ...(await import("@modelcontextprotocol/sdk/client/auth.js")),
    }
  : await import("@modelcontextprotocol/client");

const kept = {};
const steps = [];
let callback;
const interactive = {
  redirectUrl,
  clientMetadata: {
    client_name: "mcpproxy-peers",
    redirect_uris: [redirectUrl],
    grant_types: ["authorization_code", "refresh_token"],
    response_types: ["code"],
    token_endpoint_auth_method: "none",
  },
  state: () => "a-state-of-the-client",
  clientInformation: () => kept.client,
  saveClientInformation: (client) => { steps.push("registered"); kept.client = client; },
  tokens: () => kept.tokens,
  saveTokens: (tokens) => { steps.push("token"); kept.tokens = tokens; },
  saveCodeVerifier: (verifier) => { kept.verifier = verifier; },
  codeVerifier: () => kept.verifier,
  redirectToAuthorization: (url) => {
    steps.push("browser");
    const [command, ...args] = rest;
    callback = new URL(execFileSync(command, [...args, url.href], { encoding: "utf8" }));
  },
};
const authProvider = redirectUrl === "-"
  ? new sdk.ClientCredentialsProvider({ clientId: rest[0], clientSecret: rest[1], scope: "mcp:tools" })
  : interactive;

async function list() {
  const transport = new sdk.StreamableHTTPClientTransport(new URL(target), { authProvider });
  const client = new sdk.Client({ name: "mcpproxy-peers", version: "1.0.0" });
  try {
    await client.connect(transport);
  } catch (error) {
    if (!callback) throw error;
    const { searchParams } = callback;
    callback = undefined;
    await (major === "1"
      ? transport.finishAuth(searchParams.get("code"))
      : transport.finishAuth(searchParams));
    return list();
  }
  const { tools } = await client.listTools();
  await client.close();
  return tools.map((tool) => tool.name).sort();
}

const first = await list();
const second = await list();
console.log(JSON.stringify({ first, second, steps }));

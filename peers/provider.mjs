// A certified OpenID Connect provider, oidc-provider, on loopback: client credentials, authorization
// code with PKCE, and dynamic registration. Access tokens are JWTs for the resource alone.
// Usage: node provider.mjs PORT RESOURCE
import { generateKeyPair, exportJWK } from "jose";
import Provider from "oidc-provider";

const [port, resource] = process.argv.slice(2);
const SCOPES = "mcp:tools mcp:admin";

const key = async (alg) => {
  const { privateKey } = await generateKeyPair(alg, { extractable: true });
  return { ...(await exportJWK(privateKey)), alg, use: "sig" };
};
const alg = "ES256";

const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: { keys: [await key("RS256"), await key(alg)] },
  cookies: { keys: ["peers"] },
  clients: [
    {
      client_id: "agent",
      client_secret: "secret-of-the-agent",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
      scope: SCOPES,
    },
  ],
  scopes: ["openid", "offline_access", ...SCOPES.split(" ")],
  pkce: { required: () => true },
  issueRefreshToken: async () => true,
  findAccount: (_, accountId) => ({ accountId, claims: async () => ({ sub: accountId }) }),
  extraTokenClaims: async (_, token) => ({ groups: token.kind === "AccessToken" ? ["people"] : [] }),
  ttl: { AccessToken: 600, ClientCredentials: 600, Interaction: 600, Session: 600, Grant: 600 },
  features: {
    clientCredentials: { enabled: true },
    registration: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, indicator) => {
        // Clients may add the slash of an empty path.
        if (indicator.replace(/\/$/, "") !== resource) throw new Error("unknown resource");
        return { scope: SCOPES, audience: resource, accessTokenFormat: "jwt", jwt: { sign: { alg } } };
      },
    },
  },
});
provider.on("server_error", (_, error) => console.error(error));
provider.listen(Number(port), "127.0.0.1");

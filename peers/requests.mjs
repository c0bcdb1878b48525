// What the clients here have in common: requests from standard input (JSON: a list of
// {method, params}), and an answer to each.
import { readFileSync } from "node:fs";

export const given = JSON.parse(readFileSync(0, "utf8"));
// The default of the SDKs.
const TIMEOUT = 60000;

// `methods` has a function of (params, options) for each method; options are those of the SDKs.
export async function answered(methods, { method, params }) {
  const progress = [];
  const options = { timeout: TIMEOUT, onprogress: (event) => progress.push(event) };
  try {
    return { result: await methods[method](params, options), progress };
  } catch (error) {
    return { error: { code: error.code ?? null, message: String(error.message ?? error) } };
  }
}

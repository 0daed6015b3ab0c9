// The clients of the demo: curl, and a plain TCP client.
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { programPath } from '../programs.ts';
import type { Greeting } from './servers.ts';
import { on, SCRATCH } from './stage.ts';
import type { Exchange } from './tcp-client.ts';

/** What a client can tell after a connection. */
export interface Told {
  greeting: Greeting;
  /** Bytes that it sent and received. */
  up: number;
  down: number;
  /** Plain TCP only: what was sent. */
  sha256?: string;
}

/** Whom a client calls, and from which port of its own: a fixed one, so that the proxy's log can be matched. */
export interface Call {
  address: string;
  port: number;
  localPort: number;
}

const run = promisify(execFile);

/** What a program on the client's host prints; if it fails, an error with what it printed as one. */
async function onClient(command: string[]): Promise<string> {
  try {
    return (await run(...on('client', command))).stdout;
  } catch (error) {
    throw new Error((error as { stderr: string }).stderr.trim(), { cause: error });
  }
}

/** The part of curl's `--write-out '%{json}'` that is used here. */
interface CurlReport {
  size_request: number;
  size_header: number;
  size_download: number;
}

/** A request by curl on the client's host; the name in the URL is resolved to the address given. */
export async function curl(url: string, { address, port, localPort }: Call): Promise<Told> {
  const { hostname } = new URL(url);
  const literal = address.includes(':') ? `[${address}]` : address;
  const options = ['--silent', '--show-error', '--max-time', '10', '--local-port', String(localPort)];
  const where = ['--resolve', `${hostname}:${port}:${literal}`, '--cacert', `${SCRATCH}/cert.pem`];
  const stdout = await onClient([programPath('curl'), ...options, ...where, '-w', '\n%{json}', url]);
  const [body, written] = stdout.split('\n') as [string, string];
  const report = JSON.parse(written) as CurlReport;
  return {
    greeting: JSON.parse(body) as Greeting,
    up: report.size_request,
    down: report.size_header + report.size_download,
  };
}

/** How much the plain TCP client sends: more than socket buffers hold at once, and an odd number. */
const PAYLOAD_BYTES = 1_000_003;

/** A plain TCP exchange from the client's host. */
export async function plainTcp({ address, port, localPort }: Call): Promise<Told> {
  const script = fileURLToPath(new URL('tcp-client.js', import.meta.url));
  const call = [address, port, localPort, PAYLOAD_BYTES].map(String);
  const stdout = await onClient([process.execPath, script, ...call]);
  const { sha256, received } = JSON.parse(stdout) as Exchange;
  const greeting = JSON.parse(received) as Greeting;
  return { greeting, sha256, up: PAYLOAD_BYTES, down: Buffer.byteLength(received) };
}

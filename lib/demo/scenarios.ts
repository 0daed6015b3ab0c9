// What the demo tries, and what must come out.
import type { Endpoint } from '../address.ts';
import { type Call, curl, plainTcp, type Told } from './clients.ts';
import { canonical, type Visit } from './proxy.ts';
import { ADDRESSES, HTTP, HTTPS, REDIRECT_PORT, TCP } from './stage.ts';

const TRAFFIC = {
  'curl HTTP': { ...HTTP, exact: true, send: (call: Call) => curl('http://web.example/', call) },
  // What curl counts is inside of TLS: the proxy sees more than that.
  'curl HTTPS': { ...HTTPS, exact: false, send: (call: Call) => curl('https://secure.example/', call) },
  'plain TCP': { ...TCP, exact: true, send: plainTcp },
} as const;

/** One connection of the demo, and all that is known of it beforehand. */
export interface Scenario extends Call {
  mode: 'redirect' | 'tproxy' | 'direct';
  traffic: keyof typeof TRAFFIC;
  client: string;
  acceptedAt: string;
  destination: string;
  /** The client's address as the server sees it; undefined where the proxy is to refuse the connection. */
  seen?: string;
}

/** Both modes × both families × all kinds of traffic, and for each family a client who dials the proxy itself. */
export function scenarios(): Scenario[] {
  const list: Scenario[] = [];
  const add = (mode: Scenario['mode'], family: Endpoint['family'], traffic: Scenario['traffic']): void => {
    const { client, proxy, ...servers } = ADDRESSES[family];
    const localPort = 40001 + list.length;
    const [address, port] =
      mode === 'direct'
        ? [proxy, REDIRECT_PORT]
        : [servers[mode] + TRAFFIC[traffic].host, TRAFFIC[traffic].port];
    const destination = canonical(address, port);
    const expected = {
      redirect: { acceptedAt: canonical(proxy, REDIRECT_PORT), seen: `${servers.redirect}1` },
      tproxy: { acceptedAt: destination, seen: client },
      direct: { acceptedAt: destination },
    }[mode];
    const own = canonical(client, localPort);
    list.push({ mode, traffic, address, port, localPort, client: own, destination, ...expected });
  };
  for (const mode of ['redirect', 'tproxy'] as const) {
    for (const family of ['IPv4', 'IPv6'] as const) {
      for (const traffic of Object.keys(TRAFFIC) as Scenario['traffic'][]) add(mode, family, traffic);
    }
  }
  add('direct', 'IPv4', 'plain TCP');
  add('direct', 'IPv6', 'plain TCP');
  return list;
}

/** What the proxy and the client's program say about a connection. */
export interface Evidence {
  /** Undefined: the proxy never saw it. */
  visit: Visit | undefined;
  /** Undefined: the client's program failed. */
  told: Told | undefined;
  /** Why the client's program failed. */
  failure?: string | undefined;
}

/** All that is wrong with what happened; nothing if the list is empty. */
export function faultsOf(scenario: Scenario, { visit, told, failure }: Evidence): string[] {
  const faults: string[] = [];
  const expect = (what: string, actual: unknown, expected: unknown): void => {
    if (actual !== expected) faults.push(`${what} is ${String(actual)}, expected ${String(expected)}`);
  };
  if (visit === undefined) {
    faults.push('the connection did not reach the proxy');
  } else {
    const { originalDst: found } = visit;
    expect('kind', found.kind, scenario.mode);
    if (found.kind === 'unknown') faults.push(found.cause.message);
    else expect('true destination', canonical(found.address, found.port), scenario.destination);
    expect('address of the accepted socket', visit.acceptedAt, scenario.acceptedAt);
  }
  if (scenario.seen === undefined) {
    if (told) faults.push('the proxy was to refuse this one');
    return faults;
  }
  if (told === undefined) return [...faults, `the client failed: ${failure}`];
  expect('server that answered', told.greeting.server, scenario.destination);
  expect('client as the server saw it', told.greeting.client, scenario.seen);
  expect('digest of what the server got', told.greeting.sha256, told.sha256);
  if (visit === undefined) return faults;
  const right = TRAFFIC[scenario.traffic].exact
    ? visit.up === told.up && visit.down === told.down
    : visit.up > told.up && visit.down > told.down;
  if (!right) {
    faults.push(`the proxy counted ${visit.up} ↑ ${visit.down} ↓, the client ${told.up} ↑ ${told.down} ↓`);
  }
  return faults;
}

/** What happened, and what is wrong with it. */
export interface Outcome extends Evidence {
  scenario: Scenario;
  faults: string[];
}

/** Makes the connection and judges it. */
export async function play(scenario: Scenario, visits: Map<string, Promise<Visit>>): Promise<Outcome> {
  let told: Told | undefined;
  let failure: string | undefined;
  try {
    told = await TRAFFIC[scenario.traffic].send(scenario);
  } catch (error) {
    failure = (error as Error).message;
  }
  const visit = await visits.get(scenario.client);
  return { scenario, visit, told, faults: faultsOf(scenario, { visit, told, failure }) };
}

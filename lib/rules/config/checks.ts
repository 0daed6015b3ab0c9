// Settings that contradict each other.
import { codedError } from '../../errors.ts';
import { checkProxyPorts } from './proxy-ports.ts';
import { checkLocalhost, checkReach, checkRouting, checkServers, isRouted } from './reach.ts';
import { leavesSome, nameCovers } from './remainder.ts';
import { contradiction } from './refusals.ts';
import { covers, EVERY_ADDRESS, EVERY_PORT, mergeRanges, parseCidr, type Range } from './ranges.ts';
import type { Family, RulesConfig } from './config.ts';
import { hasMark } from './marks.ts';
import type { Match } from './match.ts';
import type { Direction, Settings } from './settings.ts';

export const DNS_PORT: Range = { first: 53n, last: 53n };

/** The ports to which the proxy's calls to this host are no hairpin: its own queries go to a resolver, also to one here. */
export function stayingPorts(exceptPorts: readonly Range[], dns: boolean): Range[] {
  return mergeRanges([...exceptPorts, ...(dns ? [DNS_PORT] : [])], () => {});
}

function ownersCover(outer: readonly number[] | undefined, inner: readonly number[] | undefined): boolean {
  return outer === undefined || (inner !== undefined && inner.every((id) => outer.includes(id)));
}

/** Does the one hold all that the other one holds? */
export function matchCovers(outer: Match, inner: Match, family: Family): boolean {
  // What names none names all: an exclusion of 0.0.0.0/0 leaves nothing of it.
  const addressesCover = (a: Range[] | undefined, b = EVERY_ADDRESS[family]): boolean =>
    a === undefined || covers(a, b);
  return (
    (outer.ports === undefined || covers(outer.ports, inner.ports ?? EVERY_PORT)) &&
    addressesCover(outer.destinations?.[family], inner.destinations?.[family]) &&
    addressesCover(outer.sources?.[family], inner.sources?.[family]) &&
    ownersCover(outer.uids, inner.uids) &&
    ownersCover(outer.gids, inner.gids) &&
    (outer.interfaces === undefined ||
      (inner.interfaces !== undefined &&
        inner.interfaces.every((name) => outer.interfaces!.some((other) => nameCovers(other, name)))))
  );
}

function checkDirection(option: string, direction: Direction, settings: Settings): void {
  const covered = (outer: Match, inner: Match): boolean =>
    settings.families.every((family) => matchCovers(outer, inner, family));
  for (const [i, match] of direction.include.entries()) {
    if (!settings.families.some((family) => leavesSome(match, direction.exclude, family))) {
      contradiction(`${option}: all that include[${i}] names is excluded again`);
    }
  }
  for (const field of ['include', 'exclude'] as const) {
    const all = direction[field];
    for (const [i, match] of all.entries()) {
      // Before a wider entry a narrower one may have a port of its own.
      const wider = all.findIndex(
        (other, j) => j !== i && covered(other, match) && (j < i || other.proxyPort === match.proxyPort),
      );
      if (wider < 0) continue;
      throw codedError(
        'ERR_RULES_OVERLAP',
        `${option}.${field}[${wider}] holds all that ${field}[${i}] names`,
        {
          hint: `leave ${field}[${i}] out`,
        },
      );
    }
  }
  if (direction.include.length === 0 && (option === 'inbound' || settings.dns === undefined)) {
    contradiction(`${option}.include is empty: nothing would be captured`, `leave ${option} out`);
  }
}

function checkDns({ dns, outbound, gateway }: Settings): void {
  if (dns === undefined) return;
  if (outbound === undefined && gateway === undefined) {
    contradiction(
      'dns: only the outbound and the gateway direction carry queries to capture',
      'add outbound with include: [] to capture nothing but DNS',
    );
  }
  for (const [option, direction] of Object.entries({ outbound, gateway })) {
    if (direction === undefined) continue;
    if (direction.include.some(({ ports }) => ports && covers([DNS_PORT], ports))) {
      throw codedError('ERR_RULES_OVERLAP', `${option}.include names port 53, which dns captures`, {
        hint: 'leave one of the two out',
      });
    }
    if (
      direction.exclude.some((match) => isPortsOnly(match) && covers(match.ports ?? [DNS_PORT], [DNS_PORT]))
    ) {
      contradiction(`${option}.exclude names port 53, which dns captures`, 'leave one of the two out');
    }
    const some = direction.exclude.findIndex(({ ports }) => ports && covers([DNS_PORT], ports));
    if (some >= 0) {
      contradiction(
        `${option}.exclude[${some}] names queries, which dns captures`,
        'name the resolvers whose queries are to be captured in dns.servers',
      );
    }
  }
}

/** Does it name ports and nothing else? */
export function isPortsOnly(match: Match): boolean {
  return Object.keys(match).every((field) => field === 'ports');
}

function checkOwnTraffic(settings: Settings): void {
  const { outbound, exempt, mark } = settings;
  const { uids, gids, marks, cgroups } = exempt;
  if (outbound !== undefined && uids.length + gids.length + marks.length + cgroups.length === 0) {
    throw codedError('ERR_RULES_LOOP', 'outbound would capture the proxy’s own connections, for ever', {
      hint: 'run the proxy as a user of its own and name it in exempt.uids, or set SO_MARK and name it in exempt.marks',
    });
  }
  const unmarked = marks.find((own) => hasMark(0, own));
  if (outbound !== undefined && unmarked !== undefined) {
    contradiction(
      'exempt.marks: a packet that nobody has marked has mark 0, and would be taken for the proxy’s own',
      'choose a mark other than 0',
    );
  }
  const routed = [mark, mark + 1, mark + 2];
  const clash = isRouted(settings) ? routed.find((one) => marks.some((own) => hasMark(one, own))) : undefined;
  if (clash !== undefined) {
    throw codedError(
      'ERR_RULES_LOOP',
      `exempt.marks: packets with mark ${clash} are routed to this host by tproxy`,
      {
        hint: `tproxy uses the marks ${mark} to ${mark + 2}: choose another one for the proxy, or another option mark`,
      },
    );
  }
}

function checkHairpin({ outbound, inbound, dns, exempt, families }: Settings): void {
  if (outbound?.hairpin === undefined) return;
  const { uids, gids } = exempt;
  const { port, exceptPorts } = outbound.hairpin;
  if (inbound === undefined && port === undefined) {
    contradiction('outbound.hairpin: there is no inbound listener to go to', 'give outbound.hairpin.port');
  }
  if (covers(stayingPorts(exceptPorts, dns !== undefined), EVERY_PORT))
    contradiction('outbound.hairpin.exceptPorts leaves no port', 'leave outbound.hairpin out');
  if (inbound?.mode === 'tproxy' && port !== undefined && uids.length === 0) {
    contradiction(
      'outbound.hairpin.port: under inbound tproxy it is for calls of exempt.uids, and there are none',
      'leave it out',
    );
  }
  if (inbound?.mode === 'tproxy' ? gids.length === 0 : uids.length + gids.length === 0) {
    contradiction(
      'outbound.hairpin: nothing tells the proxy’s connections from others',
      inbound?.mode === 'tproxy' ? 'name its group in exempt.gids' : 'name its user in exempt.uids',
    );
  }
  const without = families.find((family) => exempt.sources[family].length === 0);
  if (without !== undefined) {
    throw codedError(
      'ERR_RULES_LOOP',
      `outbound.hairpin: the proxy’s ${without} connections to programs of this host would come back to it`,
      {
        hint: 'dial them from a loopback address of their own and name it in exempt.sources (127.0.0.6, ::6)',
      },
    );
  }
}

/** Whether one match can hold; `unknown` stands for the interface, which SSH_CONNECTION does not tell. */
function holds(
  match: Match,
  flow: { family: Family; source: Range; destination: Range; port: Range },
  unknown: boolean,
): boolean {
  return (
    (match.interfaces === undefined || unknown) &&
    (match.ports === undefined || covers(match.ports, [flow.port])) &&
    (match.sources === undefined || covers(match.sources[flow.family], [flow.source])) &&
    (match.destinations === undefined || covers(match.destinations[flow.family], [flow.destination]))
  );
}

function checkSsh({ inbound, families, sshConnection }: Settings): void {
  // Empty as in the environment of a session that is none.
  if (inbound === undefined || sshConnection === undefined || sshConnection === '') return;
  const words = sshConnection.trim().split(/\s+/);
  const [from = '', , to = '', port = ''] = words;
  if (words.length !== 4 || !/^\d{1,5}$/.test(port)) {
    throw codedError(
      'ERR_RULES_OPTION',
      `sshConnection: '${sshConnection}' is not what SSH_CONNECTION looks like`,
      {
        hint: 'client address, client port, server address, server port',
      },
    );
  }
  // sshd adds the interface of a link-local address.
  const source = parseCidr('sshConnection', from.split('%')[0]);
  const destination = parseCidr('sshConnection', to.split('%')[0]);
  const number = BigInt(port);
  const flow = { family: source.family, source, destination, port: { first: number, last: number } };
  if (!families.includes(flow.family) || !inbound.protocols.includes('tcp')) return;
  if (inbound.exclude.some((match) => holds(match, flow, false))) return;
  if (!inbound.include.some((match) => holds(match, flow, true))) return;
  throw codedError(
    'ERR_RULES_SSH',
    `inbound would capture SSH connections like the one in use, from ${from} to ${to} port ${port}`,
    {
      hint: `add { ports: [${port}] } to inbound.exclude, or clear sshConnection if this is not the host of that session`,
    },
  );
}

/** Refuses what no field alone shows: options that contradict each other, loops, a session that would be lost. */
export function checkSettings(settings: Settings, given: RulesConfig): void {
  const { outbound, inbound, gateway } = settings;
  if (outbound === undefined && inbound === undefined && gateway === undefined) {
    throw codedError('ERR_RULES_EMPTY', 'no direction is to be captured', {
      hint: 'give outbound, inbound or gateway',
    });
  }
  if (outbound) checkDirection('outbound', outbound, settings);
  if (inbound) checkDirection('inbound', inbound, settings);
  if (gateway) checkDirection('gateway', gateway, settings);
  checkProxyPorts(settings);
  checkDns(settings);
  for (const option of ['outbound', 'inbound', 'gateway'] as const) {
    if (settings[option]) checkReach(option, settings);
  }
  checkServers(settings);
  checkRouting(settings, given);
  checkLocalhost(settings, given);
  checkOwnTraffic(settings);
  checkHairpin(settings);
  checkSsh(settings);
}

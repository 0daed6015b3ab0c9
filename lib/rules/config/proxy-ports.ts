// The ports of the proxy and its resolver: which of them may be what.
import { codedError } from '../../errors.ts';
import { contradiction } from './refusals.ts';
import type { Settings } from './settings.ts';

/** Every option that names a TCP port of the proxy. */
function proxyPorts({ outbound, inbound, gateway }: Settings): [option: string, port: number | undefined][] {
  return Object.entries({ outbound, inbound, gateway }).flatMap(([option, direction]) => [
    [`${option}.port`, direction?.port],
    ...(direction?.include ?? []).map(({ proxyPort }, i): [string, number | undefined] => [
      `${option}.include[${i}].proxyPort`,
      proxyPort,
    ]),
    ...(option === 'outbound'
      ? [['outbound.hairpin.port', outbound?.hairpin?.port] satisfies [string, number | undefined]]
      : []),
  ]);
}

/** Refuses ports that two programs would listen at, and those that packets could not be sent to. */
export function checkProxyPorts(settings: Settings): void {
  const { dns, outbound } = settings;
  for (const [option, port] of proxyPorts(settings)) {
    if (dns === undefined || port !== dns.port) continue;
    throw codedError('ERR_RULES_OVERLAP', `dns.port and ${option} are the same, ${port}`, {
      hint: 'the resolver and the proxy cannot both listen on that TCP port',
    });
  }
  const own = outbound?.include.findIndex(({ proxyPort }) => proxyPort !== undefined) ?? -1;
  if (outbound?.mode !== 'tproxy' || own < 0) return;
  contradiction(
    `outbound.include[${own}].proxyPort: under tproxy one mark leads all connections of this host to outbound.port`,
    'use mode redirect, or leave it out',
  );
}

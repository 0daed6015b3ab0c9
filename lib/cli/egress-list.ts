// --allow and --deny as egress policies.
import { BlockList } from 'node:net';
import { familyOf } from '../address.ts';
import type { EgressLists } from '../policy/egress.ts';
import type { Target } from './arguments.ts';

function blockList(targets: readonly Target[], port: number): BlockList {
  const list = new BlockList();
  for (const target of targets) {
    if (target.port !== undefined && target.port !== port) continue;
    const [address, bits] = target.cidr.split('/') as [string, string | undefined];
    const v4 = familyOf(address) === 'IPv4';
    list.addSubnet(address, Number(bits ?? (v4 ? 32 : 128)), v4 ? 'ipv4' : 'ipv6');
  }
  return list;
}

/**
 * The policy of `--allow` and `--deny` for destinations at a port. A net.BlockList knows no ports, so each port that
 * is named has lists of its own, and all the others share one pair.
 */
export function egressPolicies(
  allow: readonly Target[] | undefined,
  deny: readonly Target[] | undefined,
): (port: number) => EgressLists {
  const named = new Set([...(allow ?? []), ...(deny ?? [])].flatMap(({ port }) => port ?? []));
  const known = new Map<number, EgressLists>();
  return (port) => {
    const key = named.has(port) ? port : 0;
    let policy = known.get(key);
    if (policy === undefined) {
      policy = {
        ...(allow === undefined ? {} : { allow: blockList(allow, key) }),
        ...(deny === undefined ? {} : { deny: blockList(deny, key) }),
      };
      known.set(key, policy);
    }
    return policy;
  };
}

// Do the rules name interfaces that can do what is asked of them?
import type { Check, Context } from '../context.ts';
import { type Finding, Findings } from '../finding.ts';
import { named } from '../../rules/install/bridges.ts';

const finding = new Findings('interfaces');

interface Link {
  ifname: string;
  addr_info: { family: string; scope: string }[];
}

async function links({ host }: Context): Promise<Link[]> {
  const { status, stdout } = await host.run('ip', ['-j', 'addr']);
  return status === 0 && stdout.startsWith('[') ? (JSON.parse(stdout) as Link[]) : [];
}

/** rtnetlink RTM_GETADDR: interfaces that do not exist; those that REDIRECT finds no address on. */
export const interfaces: Check = async (context) => {
  const rules = (await context.rulesInQuestion()).filter((rule) => rule.interfaces.length > 0);
  if (rules.length === 0) return [];
  const all = await links(context);
  if (all.length === 0) return [];
  const findings = new Map<string, Finding>();
  for (const { kind, hooks, families, place, interfaces } of rules) {
    for (const pattern of interfaces) {
      const found = all.filter(({ ifname }) => named([pattern], ifname));
      if (found.length === 0) {
        findings.set(
          pattern,
          finding.warning(
            `there is no interface ${pattern}`,
            `The rule in ${place} waits for one; until then it catches nothing.`,
            'ip -brief link',
          ),
        );
      }
      if (kind !== 'redirect' || !hooks.includes('prerouting')) continue;
      for (const { ifname, addr_info: addresses } of found) {
        const lacking = families.find(
          (family) => !addresses.some((address) => address.family === (family === 4 ? 'inet' : 'inet6')),
        );
        if (lacking !== 4) continue; // every interface that is up has an IPv6 address, link-local at least
        findings.set(
          ifname,
          finding.problem(
            `${ifname} has no IPv4 address`,
            `REDIRECT in ${place} sends connections to the address of the interface that they come in on, and drops them where there is none. Any address will do; TPROXY needs none.`,
            `ip addr add 169.254.7.1/32 dev ${ifname}`,
          ),
        );
      }
    }
  }
  return [...findings.values()];
};

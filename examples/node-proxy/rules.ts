// The rules inside a pod, in the manner of a mesh's ambient mode.

/** Of all that the proxy sends: the rules let it pass. */
export const MARK = 0x539;
/** Of the connections in which it has done so, for the answers. */
const ANSWERS = 0x111;
export const PORTS = { outbound: 15001, inbound: 15006, dns: 15053 } as const;
const TABLE = 'node_proxy';

/** As one transaction: an older table of the same name is replaced. */
export const RULES = `
table inet ${TABLE}
delete table inet ${TABLE}
table inet ${TABLE} {
  chain keep {
    type filter hook prerouting priority mangle
    meta mark ${MARK} ct mark set ${ANSWERS}
    ct direction reply ct mark ${ANSWERS} meta mark set ${ANSWERS}
  }
  chain answers {
    type route hook output priority mangle
    meta mark ${MARK} ct mark set ${ANSWERS}
    ct direction reply ct mark ${ANSWERS} meta mark set ${ANSWERS}
  }
  chain inbound {
    type nat hook prerouting priority dstnat
    meta mark ${MARK} accept
    meta mark ${ANSWERS} accept
    iif != lo meta l4proto tcp redirect to :${PORTS.inbound}
  }
  chain outbound {
    type nat hook output priority -100
    meta mark ${MARK} accept
    meta mark ${ANSWERS} accept
    meta l4proto { tcp, udp } th dport 53 redirect to :${PORTS.dns}
    oif lo accept
    meta l4proto tcp redirect to :${PORTS.outbound}
  }
}`;

/** What the application answers to a client's own address comes back to the proxy, which has dialled from there. */
export const ROUTES = [
  ['rule', 'add', 'fwmark', `${ANSWERS}`, 'lookup', '100', 'pref', '32764'],
  ['route', 'replace', 'local', 'default', 'dev', 'lo', 'table', '100'],
];

export const NO_RULES = `table inet ${TABLE}\ndelete table inet ${TABLE}\n`;

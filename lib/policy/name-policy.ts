// NamePolicy: who may be talked to, by name, address, port and protocol.
import { addressBits, canonicalAddress, dialledAddress, familyOf } from '../address.ts';
import { checkOptionNames, invalidType, outOfRange } from '../arguments.ts';
import { canonicalName } from '../host-name.ts';
import {
  type Asked,
  moreSpecificFirst,
  parseRule,
  type PolicyProtocol,
  PROTOCOLS,
  type Rule,
  speaksOf,
} from './rule.ts';

/** What a {@link NamePolicy} is made of. JSON can hold it. */
export interface NamePolicyRules {
  /** `example.com`, `*.example.com:443`, `*`, `10.0.0.0/8:22`, `[2001:db8::/32]:443/tls` */
  allow?: readonly string[];
  deny?: readonly string[];
  /** For what has a name and is in no rule. Default: `'deny'` with an `allow`, else `'allow'`. */
  default?: 'allow' | 'deny';
  /** For what has no name and is in no rule: no SNI, no Host, a protocol without names. Default: as `default`. */
  unnamed?: 'allow' | 'deny';
  /**
   * What the name in a TLS hello with Encrypted Client Hello is worth: `'unnamed'`, nothing, since the name that
   * counts is hidden; `'outer'`, as much as any other. Browsers send hellos that look so to every server (GREASE).
   * Default `'unnamed'`.
   */
  ech?: 'unnamed' | 'outer';
}

/** What a policy is asked about: as much as is known. A destination and what inspect found, spread into one, will do. */
export interface PolicySubject {
  name?: string | undefined;
  /** Is the TLS hello one with Encrypted Client Hello? */
  ech?: boolean | undefined;
  /** A literal IP address. */
  address?: string | undefined;
  port?: number | undefined;
  protocol?: PolicyProtocol | undefined;
}

/** Why a policy says what it says. */
export interface PolicyExplanation {
  allowed: boolean;
  /** The rule that decided, as it was written. Undefined: none speaks of it. */
  rule?: string;
  /** In words: `allow *.example.com:443`, `default: deny`, `unnamed: deny`. */
  because: string;
}

const KEYS = new Set<string>(['allow', 'deny', 'default', 'unnamed', 'ech']);

function readList(name: 'allow' | 'deny', list: unknown): Rule[] {
  if (list === undefined) return [];
  if (!Array.isArray(list)) throw invalidType(`rules.${name}`, 'an array of strings', list);
  return list.map((text: unknown) => {
    if (typeof text !== 'string') throw invalidType(`rules.${name}`, 'an array of strings', text);
    return parseRule(name, text);
  });
}

function checkRules(rules: unknown): asserts rules is NamePolicyRules {
  if (typeof rules !== 'object' || rules === null) throw invalidType('rules', 'of type object', rules);
  checkOptionNames('NamePolicy', Object.keys(rules), KEYS);
  const { default: fallback, unnamed, ech } = rules as NamePolicyRules;
  for (const [name, value, known] of [
    ['default', fallback, ['allow', 'deny']],
    ['unnamed', unnamed, ['allow', 'deny']],
    ['ech', ech, ['unnamed', 'outer']],
  ] as const) {
    if (value !== undefined && !(known as readonly string[]).includes(value))
      throw outOfRange(`rules.${name}`, known.map((each) => `'${each}'`).join(' or '), value);
  }
}

/** The keys of the rules that could speak of a name, the most specific first. */
function nameKeys(name: string): string[] {
  const keys = [name];
  for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1))
    keys.push(`*${name.slice(dot)}`);
  return [...keys, '*'];
}

/**
 * Who may be talked to: allow and deny rules by host name, address, port and protocol.
 *
 * A rule is `target[:port[-port]][/protocol]`. The target is a name (`example.com`, itself alone), `*.example.com`
 * (all names below it, however deep, and not itself), `*` (every name), an address or a prefix (IPv6 in brackets
 * where a port follows). Protocols are those of {@link PolicyProtocol}; `http` is `http2` too, `tcp`
 * and `udp` are all that goes over them. A rule speaks of a
 * subject only when the subject has all that the rule asks for.
 *
 * **The most specific rule wins**, wherever it stands: first by the target (a name before `*.` and more labels, a
 * longer prefix before a shorter), then by fewer ports, then by protocol; of two that are alike, `deny`. Rules by name
 * and rules by address are asked separately, because a name is what the client says and an address is where the
 * packets go: a `deny` of either refuses, else an `allow` of either allows. What no rule speaks of falls to `default`,
 * and if it has no name to `unnamed`.
 *
 * Each family of addresses is judged by its own rules, `::/0` is nothing of IPv4; `0.0.0.0` and `::`, which connect(2)
 * takes for this host, are judged as `127.0.0.1` and `::1` too. Names are compared in lower case, in A-labels and
 * without a trailing dot; what is no host name counts as none.
 *
 * @throws `ERR_POLICY_RULE` for a rule that cannot be read; argument errors
 */
export class NamePolicy {
  readonly #rules: NamePolicyRules;
  readonly #byKey = new Map<string, Rule[]>();
  /** Lengths of the prefixes that there are rules for, longest first. */
  readonly #lengths: readonly number[];
  readonly #fallback: 'allow' | 'deny';
  readonly #unnamed: 'allow' | 'deny';
  readonly #ech: 'unnamed' | 'outer';

  constructor(rules: NamePolicyRules) {
    checkRules(rules);
    const all = [...readList('allow', rules.allow), ...readList('deny', rules.deny)];
    const lengths = new Set<number>();
    for (const rule of all.sort(moreSpecificFirst)) {
      const same = this.#byKey.get(rule.key);
      if (same) same.push(rule);
      else this.#byKey.set(rule.key, [rule]);
      if (!rule.named) lengths.add(rule.key.length - 'IPv4 '.length);
    }
    this.#lengths = [...lengths].sort((a, b) => b - a);
    this.#rules = structuredClone(rules);
    this.#fallback = rules.default ?? (rules.allow === undefined ? 'allow' : 'deny');
    this.#unnamed = rules.unnamed ?? this.#fallback;
    this.#ech = rules.ech ?? 'unnamed';
  }

  /** May it be talked to? A string is a name of which nothing else is known. */
  test(subject: PolicySubject | string): boolean {
    return this.explain(subject).allowed;
  }

  /** The same with the reason. */
  explain(subject: PolicySubject | string): PolicyExplanation {
    const asked = typeof subject === 'string' ? { name: subject } : subject;
    const name = this.#nameOf(asked);
    const byName = name === undefined ? undefined : this.#byName(name, asked);
    const byAddress = asked.address === undefined ? undefined : this.#byAddress(asked.address, asked);
    const rule = [byName, byAddress].find((each) => each?.action === 'deny') ?? byName ?? byAddress;
    if (rule)
      return { allowed: rule.action === 'allow', rule: rule.text, because: `${rule.action} ${rule.text}` };
    const [kind, verdict] = name === undefined ? ['unnamed', this.#unnamed] : ['default', this.#fallback];
    return { allowed: verdict === 'allow', because: `${kind}: ${verdict}` };
  }

  /**
   * Is there a port and a protocol at which the name may be talked to, going by the name alone? For whoever knows no
   * more than the name: a DNS forwarder.
   */
  allowsName(text: string): boolean {
    const name = canonicalName(text);
    if (name === undefined) return false;
    const rules = nameKeys(name).flatMap((key) => this.#byKey.get(key) ?? []);
    // Where one answer ends and the next begins.
    const ports = new Set([1, ...rules.flatMap(({ firstPort, lastPort }) => [firstPort, lastPort + 1])]);
    return [...ports].some((port) =>
      PROTOCOLS.some(
        (protocol) => (this.#byName(name, { port, protocol })?.action ?? this.#fallback) === 'allow',
      ),
    );
  }

  /** What the policy was made of. */
  toJSON(): NamePolicyRules {
    return structuredClone(this.#rules);
  }

  #nameOf({ name, ech = false }: PolicySubject): string | undefined {
    return name === undefined || (ech && this.#ech === 'unnamed') ? undefined : canonicalName(name);
  }

  #first(key: string, asked: Asked): Rule | undefined {
    return this.#byKey.get(key)?.find((rule) => speaksOf(rule, asked));
  }

  #byName(name: string, asked: Asked): Rule | undefined {
    for (const key of nameKeys(name)) {
      const rule = this.#first(key, asked);
      if (rule) return rule;
    }
    return undefined;
  }

  #byAddress(text: string, asked: Asked): Rule | undefined {
    // A rule knows no interfaces: `fe80::1%eth0` is fe80::1.
    const address = canonicalAddress(text)?.split('%')[0];
    if (address === undefined) throw invalidType('subject.address', 'a literal IP address', text);
    const dialled = this.#longest(dialledAddress(address), asked);
    // Either name of this host will do to deny it; to allow it, the one that it is dialled by.
    const written = dialledAddress(address) === address ? dialled : this.#longest(address, asked);
    return written?.action === 'deny' ? written : dialled;
  }

  #longest(address: string, asked: Asked): Rule | undefined {
    const bits = addressBits(address);
    for (const length of this.#lengths) {
      const rule = this.#first(`${familyOf(address)} ${bits.slice(0, length)}`, asked);
      if (rule) return rule;
    }
    return undefined;
  }
}

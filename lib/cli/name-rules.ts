// --allow-name, --deny-name and --inspect: which connections are looked at, and which names they may ask for.
import { InvalidArgumentError } from 'commander';
import { NamePolicy } from '../policy/name-policy.ts';
import { parseRule } from '../policy/rule.ts';
import type { RelayInspectOptions } from '../relay/inspection.ts';
import type { Target } from './arguments.ts';

export interface NameOptions {
  allow?: Target[];
  allowName?: string[];
  denyName?: string[];
  /** true: at any port. */
  inspect?: true | number[];
}

/** `example.com`, `*.example.com:443` */
export function nameRule(text: string): string {
  let named;
  try {
    ({ named } = parseRule('allow', text));
  } catch (error) {
    throw new InvalidArgumentError(`${(error as Error).message}.`);
  }
  if (!named) throw new InvalidArgumentError('It must be a name: addresses are for --allow and --deny.');
  return text;
}

/** What is looked at before it is decided: what was asked for, or all when names decide. */
export function inspection({ inspect, allowName, denyName }: NameOptions): RelayInspectOptions | undefined {
  const needed = inspect !== undefined || allowName !== undefined || denyName !== undefined;
  if (!needed) return undefined;
  return inspect === undefined || inspect === true ? {} : { ports: inspect };
}

/** What `--allow` writes as rules of a policy do. */
function ruleOf({ cidr, port }: Target): string {
  if (port === undefined) return cidr;
  return cidr.includes(':') ? `[${cidr}]:${port}` : `${cidr}:${port}`;
}

/**
 * The policy where names decide: what is allowed by its address needs no allowed name, and the other way round. The
 * addresses of `--deny` are never dialled, whatever is allowed: they are no part of this.
 */
export function namePolicy({ allow, allowName, denyName }: NameOptions): NamePolicy | undefined {
  if (allowName === undefined && denyName === undefined) return undefined;
  const allowed = allow || allowName ? { allow: [...(allow ?? []).map(ruleOf), ...(allowName ?? [])] } : {};
  return new NamePolicy({ ...allowed, deny: denyName ?? [] });
}

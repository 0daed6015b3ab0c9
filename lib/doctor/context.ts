// What every check of the doctor is given.
import { findFilters, type FoundFilter } from './found-filters.ts';
import { findListeners, type FoundListener } from './found-listeners.ts';
import { findRules, type FoundRule, type FoundRules } from './found-rules.ts';
import type { Finding } from './finding.ts';
import type { Host } from './host.ts';
import { findScratch, type Scratch } from './scratch.ts';
import type { RunStep, StepResult } from '../rules/types.ts';

/** What the diagnosis is about, where the caller says so; otherwise it is read off the rules that are there. */
export interface Subject {
  port?: number;
  mode?: 'redirect' | 'tproxy';
  mark?: number;
  direction?: 'outbound' | 'inbound' | 'gateway';
}

/** What the checks of one diagnosis share. What several of them need is read once. */
export class Context {
  readonly host: Host;
  readonly subject: Subject;
  #ruleset: Promise<StepResult> | undefined;
  #rules: Promise<FoundRules> | undefined;
  #listeners: Promise<FoundListener[] | undefined> | undefined;
  #scratch: Promise<Scratch> | undefined;

  constructor(host: Host, subject: Subject) {
    this.host = host;
    this.subject = subject;
  }

  /** For what asks by steps. */
  readonly run: RunStep = ({ command: [program, ...args], stdin }) => this.host.run(program, args, stdin);

  #nft(): Promise<StepResult> {
    return (this.#ruleset ??= this.host.run('nft', ['-j', 'list', 'ruleset']));
  }

  rules(): Promise<FoundRules> {
    return (this.#rules ??= this.#nft().then((listed) => findRules(this.host, listed)));
  }

  async filters(): Promise<FoundFilter[]> {
    return findFilters(this.host, await this.#nft());
  }

  listeners(): Promise<FoundListener[] | undefined> {
    return (this.#listeners ??= findListeners(this.host));
  }

  scratch(): Promise<Scratch> {
    return (this.#scratch ??= findScratch(this.host));
  }

  /** The rules that the diagnosis is about: those that lead to the port, or all. */
  async rulesInQuestion(): Promise<FoundRule[]> {
    const { rules } = await this.rules();
    const { port } = this.subject;
    return port === undefined ? rules : rules.filter((rule) => rule.port === port);
  }

  /** Is TPROXY meant to work here: asked for, or in a rule? */
  async tproxyWanted(): Promise<boolean> {
    const { mode } = this.subject;
    if (mode !== undefined) return mode === 'tproxy';
    return (await this.rulesInQuestion()).some(({ kind }) => kind === 'tproxy');
  }
}

/** One question about the machine. No findings: the question does not arise here. */
export type Check = (context: Context) => Promise<Finding[]> | Finding[];

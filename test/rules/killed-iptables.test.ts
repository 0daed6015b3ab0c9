// Killed between any two steps, with iptables.
import { testKilled } from '../fixtures/rule-kills.ts';

await testKilled(import.meta.url, 'iptables');

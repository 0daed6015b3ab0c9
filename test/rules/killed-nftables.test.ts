// Killed between any two steps, with nftables.
import { testKilled } from '../fixtures/rule-kills.ts';

await testKilled(import.meta.url, 'nftables');

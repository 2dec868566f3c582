import { claims } from './claims.js';
import { compareAndSet } from './compare-and-set.js';
import type { Conformance, TestFramework } from './harness.js';
import { lasting } from './lasting.js';
import { listing } from './listing.js';

/** Defines the contract of `TokenStore` as tests of one store. */
export function describeConformance(conformance: Conformance, framework: TestFramework): void {
  framework.describe(`${conformance.name} keeps the store contract`, () => {
    framework.describe('compare-and-set', () => {
      compareAndSet(conformance, framework);
    });
    framework.describe('claims on refresh tokens', () => {
      claims(conformance, framework);
    });
    framework.describe('listing and reading', () => {
      listing(conformance, framework);
    });
    framework.describe('what lasts', () => {
      lasting(conformance, framework);
    });
  });
}

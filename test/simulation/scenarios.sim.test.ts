import { test } from '@jest/globals';
import { SCENARIOS } from './scenarios.js';

test.each(SCENARIOS)('$name', ({ run }) => run());

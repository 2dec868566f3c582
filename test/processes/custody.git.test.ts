import { describeCustody } from './custody.js';

describeCustody('git', { credentials: 6, rotations: 40 });

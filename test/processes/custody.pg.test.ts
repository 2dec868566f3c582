import { describeCustody } from './custody.js';

describeCustody('postgres', { credentials: 16, rotations: 200 });

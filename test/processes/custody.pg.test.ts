import { describeCustody } from './custody.js';

describeCustody('postgres');

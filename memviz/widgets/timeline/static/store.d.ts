/** What the timeline keeps in the store. */

interface Curve { name: string; given: number[]; true: number[] | null }
interface Timeline { epochs: number[]; groups: Curve[]; fine: Curve[]; layers: { name: string; label: string }[]; accuracy: Record<string, number> }
interface Rewound { epochs: Record<string, number>; accuracy: Record<string, number> }
interface Store { timeline?: Timeline; rewound?: Rewound }

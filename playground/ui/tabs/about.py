"""The About tab: a short lesson on open models and on reading this page. Text only."""

from __future__ import annotations

import gradio as gr

LESSON = """
### What "open" means
Weights you can download are one thing of five. The Model cards tab asks all five of every model:

| item | with it you can |
|---|---|
| **Training data** | see what the model has read, search it for your test questions, look for bias and for copyright |
| **Weights** | run the model yourself, on your own machine, for as long as you like |
| **Evaluation code** | get the published scores again, instead of believing them |
| **Fine-tuning code** | adapt the model the way its makers did |
| **Training metrics** | see how training went, and compare your own training with it |

Most "open" models publish the weights and a report. That is *open weights*. Read the licence too: some allow any use,
some bind you and everyone who uses your service to rules.

### Why people choose them
- **Customisation.** You can fine-tune, quantise, or cut a model to one job, and it stays as it is until you change it.
- **Cost.** A small model on a CPU you already have costs no fee for each token.
- **Flexibility.** It runs where the data is: offline, on a laptop, inside a product. No provider can retire it.

A large hosted model still knows more. The question is whether your task needs that.

### Families, and what grew out of them
- **Llama 2**: weights under a licence of Meta's own, the base of many others. From it came ELYZA (Japanese) and LLaMA
  Pro (new blocks for code and mathematics).
- **Mistral**: Apache-2.0 weights, training data not told; Mixtral is its mixture of experts. From it came BioMistral
  (biomedicine) and OpenMath (mathematics).
- **Falcon**: its web data set is published in part. From it came OpenAssistant's (conversations by volunteers) and
  GPT4All's.
- **OLMo**: open as a whole, with data, code, metrics and checkpoints beside the weights.

They are all in the Catalogue tab, beside the small models of today that answer on a laptop: SmolLM, Qwen, Gemma,
Granite, LFM2, Phi.

### How to choose one
1. **Filter by the task.** The Catalogue tab does: what a model is made for, its licence, openness, size and what fits
   this machine.
2. **Weigh quality, speed and cost.** Published scores narrow the list, each under its own settings. Memory and tokens
   a second say what the hardware will cost.
3. **Try your own prompts.** Twenty real ones tell you more than any table. Look at the failures.

### Reading this page
- A **base model** continues text. Give it the beginning of what you want, not a question.
- **int8** and **int4** are rounded weights: smaller and faster, and not quite the same model. Each export is compared
  with the original before it is used; the verdict and the figures stand under every answer.
- **Temperature 0** always takes the likeliest token, so the same prompt gives the same answer. Above 0, the seed
  decides.
- **Time to first token** is reading your prompt; **decode rate** is the speed of writing. Loading and waiting are
  shown apart.
"""


def build() -> None:
    """Draw the tab."""
    gr.Markdown(LESSON, elem_id="lesson")

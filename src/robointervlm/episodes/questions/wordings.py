"""How questions are worded.

All wordings are ours, not those of the published data; the first ones are short and of few words, so that a small model
can read them. Which of a task's wordings is used tells nothing about the answer.
"""

WORDINGS: dict[str, tuple[str, ...]] = {
    "current_box": ("Where is the object to move now?", "Give the box of the object to move."),
    "final_box": ("Where will the object be at the end?", "Give the box of the object at the end."),
    "contact_box": (
        "Where will the gripper be when it touches the object?",
        "Give the box of the gripper when it touches the object.",
    ),
    "gripper_det": ("Where is the gripper now?", "Give the box of the gripper."),
    "contact_point": (
        "At which two points will the fingers touch the object?",
        "Give the two points where the fingers will touch the object.",
    ),
    "traj": ("Where will the gripper move? Give ten points.", "Give ten points of the way of the gripper."),
    "traj_direction_words": ("Which way will the gripper move now?", "In which direction will the gripper move now?"),
    "contact_decide": ("Is the gripper in contact with an object now?", "Does the gripper touch an object now?"),
    "grounding": ("Where is the {name}?", "Give the box of the {name}."),
    "naming": ("What is at {box}?", "Name the thing at {box}."),
    "grounding_choice": (
        "In which picture is the purple box around the object to move?",
        "Which picture has its purple box around the object that has to be moved?",
        "Choose the picture whose purple box shows the object to move.",
    ),
    "grasppose_choice": (
        "Which picture shows with its orange fork how the gripper will grasp the object?",
        "The orange fork stands for the gripper. In which picture does it grasp the object rightly?",
        "Choose the picture with the right grasp. The orange fork is the gripper.",
    ),
    "traj_choice": (
        "Which picture shows the way the gripper will take, from green to red?",
        "In which picture is the way of the gripper, green at its start and red at its end, the right one?",
        "Choose the picture with the right way of the gripper. It begins green and ends red.",
    ),
    "traj_direction_choice": (
        "Which arrow shows where the gripper will move now?",
        "In the direction of which arrow will the gripper move now?",
        "Choose the arrow along which the gripper moves next.",
    ),
    "traj_direction_choice_with_traj": (
        "The gripper will move along {points}. Which arrow shows how it begins?",
        "The way of the gripper is {points}. Along which arrow does it begin?",
    ),
    "trajlang_choice": (
        "The line shows the way the gripper will take, from green to red. Which task does it do?",
        "Which task belongs to the way of the gripper, drawn from green to red?",
        "The gripper moves along the line from green to red. Choose its task.",
    ),
    "trajlang_sub_choice": (
        "The line shows the way of the gripper in one step, from green to red. Which step is it?",
        "Which step does the gripper do on the way that is drawn from green to red?",
        "The gripper moves along the line from green to red. Choose the step it does.",
    ),
    "Planning_Task": (
        "The goal is: {goal}. What is the next step?",
        "The robot has to do this: {goal}. What should it do next?",
        "Goal: {goal}. Name the step that comes next.",
    ),
    "Planning_with_Context_Task": (
        "The goal is: {goal}. Done so far: {done}. What is the next step?",
        "Goal: {goal}. These steps are done: {done}. Which one comes next?",
    ),
    "Planning_Remaining_Steps_Task": (
        "The goal is: {goal}. Which steps remain? Name them in order, with commas between them.",
        "Goal: {goal}. List all steps that are still to be done, in order, with commas between them.",
    ),
    "Past_Description_Task": (
        "Which step has the robot just done?",
        "What has the robot just finished?",
        "Describe the last step that the robot did.",
    ),
    "Generative_Affordance_Task": (
        "What can the robot do right now?",
        "Which step is possible for the robot now?",
    ),
    "Future_Prediction_Task": (
        "What will the robot most likely do next?",
        "Which step will most likely follow the one the robot is doing?",
    ),
    "Past_Primitive_Selection": (
        "Which of these has the robot just done?",
        "Which primitive did the robot do last?",
    ),
    "Future_Primitive_Selection": (
        "The goal is: {goal}. Which of these comes next?",
        "Goal: {goal}. Which primitive will the robot do next?",
    ),
    "Past_Multi_task_Selection": (
        "Which step has the robot just done?",
        "Which of these steps did the robot finish last?",
    ),
    "Future_Multi_task_Selection": (
        "The goal is: {goal}. Which step comes next?",
        "Goal: {goal}. Which of these steps will the robot do next?",
    ),
    "Scene_Understanding": (
        "What stands on the table?",
        "Which list names the things on the table?",
    ),
    "Temporal_Understanding": (
        "The pictures are not in order. In which order were they taken? They are numbered as they are shown.",
        "The pictures are mixed up. Choose the numbers of the pictures in order of time.",
    ),
    "Success": (
        "Has the robot done this by the end: {step}?",
        "Is this step finished in the last picture: {step}?",
        "Did the robot succeed in this: {step}?",
    ),
    "Discriminative_Affordance": (
        "Is it possible for the robot to do this now: {step}?",
        "Can the robot do this right now: {step}?",
    ),
}
WORDINGS["traj_wo_init_pos"] = WORDINGS["traj"]
